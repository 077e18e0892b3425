"""The command ``fairstream verify``, step by step."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from monitor.config import Config
from streams.exits import EX_UNAVAILABLE
from streams.verify.compare import (
    PublishedPanes,
    Report,
    compare_letters,
    compare_panes,
    compare_windows,
)
from streams.verify.read import read_topic, text_headers
from streams.verify.recount import LogRecord
from streams.verify.streams import unfolded
from streams.verify.tally import Letter, Tally

SHOWN = 20
ANSWER_S = 30.0
Stretch = tuple[int, int]


def run_verify(
    config: Config,
    *,
    between: Stretch,
    monitors: Sequence[str],
    panes_only: bool,
    timeout_s: float,
    json_file: Path | None,
) -> int:
    """Recount and compare; the exit code: 0 equal, 1 something differs, 69 a monitor did not answer.

    Raises:
        KafkaException: no broker, or a topic is missing.
    """
    verify = _Verify(config, Console())
    tally = verify.recount()
    published, all_there = verify.published(tally, timeout_s)
    gone = compare_panes(verify.report, tally, published, between, all_there=all_there)
    verify.letters(tally)
    unreachable = []
    if not panes_only:
        for url in monitors:
            windows = _windows(url)
            if windows is None:
                unreachable.append(url)
            else:
                compare_windows(verify.report, config, tally, windows, gone)
    account = verify.account(tally, published)
    _say(account, verify.report)
    if json_file is not None:
        json_file.write_text(json.dumps(account, indent=2) + "\n", encoding="utf-8")
    for url in unreachable:
        print(
            f"fairstream verify: no monitor answers at {url}; --panes-only leaves windows out",
            file=sys.stderr,
        )
    if verify.report.differences:
        return 1
    return EX_UNAVAILABLE if unreachable else 0


class _Verify:
    """Reads the topics, with progress on a terminal."""

    def __init__(self, config: Config, console: Console) -> None:
        self.report = Report()
        self._config = config
        self._begins: dict[tuple[str, int], int] = {}  # first offset read, of each topic's partitions
        self._console = console
        topics = config.kafka.topics
        self._kinds = {topics.impressions: "impressions"}
        if config.engagement.actions:
            self._kinds[topics.engagements] = "engagements"

    def recount(self) -> Tally:
        return Tally(self._config, unfolded(self._config, self._log()))

    def _log(self) -> Iterator[LogRecord]:
        for topic, kind in self._kinds.items():
            for message in self._read(topic):
                stamped, record_ms = message.timestamp()
                place = (message.partition() or 0, message.offset() or 0)
                yield LogRecord(kind, *place, record_ms if stamped else -1, message.value())

    def _read(self, topic: str) -> Iterator[Message]:
        """A topic, with a line or a bar that counts its records."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            task = progress.add_task(f"reading {topic}", total=None)
            read = 0
            for message in read_topic(self._config.kafka, topic):
                read += 1
                self._begins.setdefault((topic, message.partition() or 0), message.offset() or 0)
                progress.update(task, completed=read)
                yield message
        if not self._console.is_terminal:
            self._console.print(f"read {topic}: {read} records", highlight=False)

    def published(self, tally: Tally, timeout_s: float) -> tuple[PublishedPanes, bool]:
        """What aggregate has published, once it has read as far as the log; and whether it is still whole."""
        topic = self._config.kafka.topics.panes
        deadline_s = time.monotonic() + timeout_s
        while True:
            published = PublishedPanes(self._config)
            for message in self._read(topic):
                published.take(message)
            behind = {s: end for s, end in tally.ends.items() if published.positions.get(s, 0) < end}
            if not behind or time.monotonic() > deadline_s:
                break
        for (kind, partition), end in behind.items():
            position = published.positions.get((kind, partition), 0)
            self.report.differ("position of aggregate", f"{kind}/{partition}", end, position)
        return published, self._whole(topic)

    def letters(self, tally: Tally) -> None:
        """The dead letters of the source topics."""
        topic = self._config.kafka.topics.dead_letter
        found: list[tuple[Letter, str]] = []
        for message in self._read(topic):
            headers = text_headers(message)
            kind = self._kinds.get(headers.get("topic", ""))
            if kind is not None:
                partition, offset = int(headers["partition"]), int(headers["offset"])
                letter = (kind, partition, offset, int(headers.get("row", -1)))
                found.append((letter, headers["reason"]))
        compare_letters(self.report, tally, found, all_there=self._whole(topic))

    def _whole(self, topic: str) -> bool:
        """Whether a topic that was read still has its first records."""
        return not any(begin for (of, _), begin in self._begins.items() if of == topic)

    def account(self, tally: Tally, published: PublishedPanes) -> dict[str, Any]:
        """All figures."""
        fates, counts = dict(tally.fates), self.report.counts
        accepted = fates.pop("accepted", 0)
        return {
            "events": {"read": sum(tally.fates.values()), "accepted": accepted, "rejected": fates},
            "panes": {name: counts[f"panes_{name}"] for name in ("compared", "open", "gone")},
            "records_left_out": dict(published.left_out),
            "windows": {name: counts[f"windows_{name}"] for name in ("compared", "gone")},
            "dead_letters": {
                name: counts[f"dead_letters_{name}"] for name in ("compared", "repeated", "gone")
            },
            "differences": len(self.report.differences),
            "details": [difference._asdict() for difference in self.report.differences[:SHOWN]],
        }


def _windows(url: str) -> list[dict[str, Any]] | None:
    """The entries of a monitor's page; None if nobody answers, or somebody else does."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/-/windows", timeout=ANSWER_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)
    except (urllib.error.URLError, TimeoutError, ValueError):
        return None
    return found


def _say(account: dict[str, Any], report: Report) -> None:
    events, panes, windows, letters = (account[k] for k in ("events", "panes", "windows", "dead_letters"))
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(events["rejected"].items()))
    left_out = ", ".join(f"{count} {why}" for why, count in sorted(account["records_left_out"].items()))
    for about, text in (
        ("events", f"{events['read']} read, {events['accepted']} accepted; rejected: {rejected or 'none'}"),
        ("panes", f"{panes['compared']} compared, {panes['open']} still open, {panes['gone']} too old"),
        ("windows", f"{windows['compared']} compared, {windows['gone']} too old; one for each dimension"),
        ("dead letters", f"{letters['compared']} compared, {letters['repeated']} repeated"),
        ("left out", f"records of panes: {left_out or 'none'}"),
        ("differences", account["differences"]),
    ):
        print(f"{about:13} {text}")
    for difference in report.differences[:SHOWN]:
        print(f"  {difference.what} {difference.where}: wanted {difference.wanted}, found {difference.found}")
    if len(report.differences) > SHOWN:
        print(f"  and {len(report.differences) - SHOWN} more")
