"""Terms of office: which records of a changelog were written by a partition's owner of that time.

Two processes can write to one changelog partition for a moment: an owner that was replaced
without knowing it, and its successor. Each record carries its writer's term. Terms only grow,
so whoever reads the changelog knows a record that came too late, and leaves it out.
"""

from typing import NamedTuple

HEADER = "term"


class Term(NamedTuple):
    """Compared in this order. Records without a term are of ``Term(0, 0)``."""

    number: int
    """At least the generation of the consumer group, and larger than any term read before."""
    started_ms: int
    """When the process started: a restarted one keeps its generation with static membership."""

    def encode(self) -> bytes:
        """As the value of a header.

        >>> Term.decode(Term(7, 1_700_000_000_000).encode())
        Term(number=7, started_ms=1700000000000)
        """
        return f"{self.number}-{self.started_ms}".encode()

    @staticmethod
    def decode(data: bytes | None) -> "Term":
        """Inverse of :meth:`encode`; records of before there were terms have none."""
        if not data:
            return Term(0, 0)
        number, started_ms = data.split(b"-")
        return Term(int(number), int(started_ms))


class Terms:
    """The newest term of each partition, and this process's own."""

    def __init__(self, started_ms: int) -> None:
        """Nothing read yet."""
        self.outdated = 0
        """Records left out so far."""
        self._started_ms = started_ms
        self._newest: dict[int, Term] = {}
        self._own: dict[int, Term] = {}

    def admits(self, partition: int, term: Term) -> bool:
        """Whether the next record of the changelog counts: no newer owner has written before it."""
        if term < self._newest.get(partition, Term(0, 0)):
            self.outdated += 1
            return False
        self._newest[partition] = term
        return True

    def own(self, partition: int, generation: int) -> Term:
        """The term to write under, from the first write as owner until :meth:`release`."""
        term = self._own.get(partition)
        if term is None:
            before = self._newest.get(partition, Term(0, 0))
            term = Term(max(generation, before.number + 1), self._started_ms)
            self._own[partition] = self._newest[partition] = term
        return term

    def release(self, partition: int) -> None:
        """Another process may own the partition now."""
        self._own.pop(partition, None)

    def forget(self, partition: int) -> None:
        """The changelog will be read from its beginning again."""
        self._own.pop(partition, None)
        self._newest.pop(partition, None)
