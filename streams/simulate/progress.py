"""Progress of long work: a bar on a terminal, a plain line every tenth elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report = Callable[[int, str], None]
"""Takes how much is done, and a few words on it."""


@contextmanager
def progress(title: str, total: int, console: Console) -> Iterator[Report]:
    """Show how far a piece of work of size ``total`` is, until the block ends."""
    if not console.is_terminal:
        yield PlainProgress(title, total, console.file.write)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[words]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total, words="")

        def report(done: int, words: str) -> None:
            bars.update(task, completed=done, words=words)

        yield report


class PlainProgress:
    """A line each time another tenth is done.

    >>> report = PlainProgress("counting", 100, lambda line: print(line, end=""))
    >>> for done in (5, 10, 11, 50, 100):
    ...     report(done, "sheep")
    counting: 10 %, sheep
    counting: 50 %, sheep
    counting: 100 %, sheep
    """

    def __init__(self, title: str, total: int, write: Callable[[str], object]) -> None:
        self._title = title
        self._total = max(1, total)
        self._write = write
        self._tenths = 0

    def __call__(self, done: int, words: str) -> None:
        """Write a line if another tenth is done."""
        tenths = 10 * done // self._total
        if tenths > self._tenths:
            self._tenths = tenths
            self._write(f"{self._title}: {100 * done // self._total} %, {words}\n")
