"""The latest snapshot of each pane that can still change: what a new one is compared with."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from monitor.snapshots import Kind, PaneSnapshot, compared, decode_raw, encode_raw, is_partial, supersede
from monitor.store import Store

RawKey = tuple[Kind, int, int, int]
"""(kind, source partition, pane start, part)"""


class Applied(StrEnum):
    """What became of a snapshot."""

    APPLIED = "applied"
    STALE = "stale"
    """Not newer than the one held: a repeat, or a writer that was replaced."""
    PARTIAL = "partial"
    """Lacks events that the one held has counted; refused."""
    SEALED = "sealed"
    """Its pane can no longer change; refused."""


class RawSnapshots:
    """Those of one surface: whole in the store, without their sums in memory, where panes have them."""

    def __init__(self, surface: str, store: Store, meaning: str) -> None:
        """None are held; :meth:`load` brings back those of the store."""
        self._surface = surface
        self._store = store
        self._meaning = meaning
        self._held: dict[RawKey, PaneSnapshot] = {}

    def take(self, key: RawKey, snapshot: PaneSnapshot) -> Applied:
        """Hold and store a snapshot unless it says nothing new or lacks events."""
        first_part = self._held.get((*key[:3], 0))  # parts are numbered from a pane's first event
        if first_part is not None and is_partial(first_part, snapshot):
            return Applied.PARTIAL
        held = self._held.get(key)
        if held is not None and supersede(held, snapshot) is held:
            return Applied.STALE
        self._store.put(self._name(key), encode_raw(self._meaning, snapshot))
        self._held[key] = compared(snapshot)
        return Applied.APPLIED

    def forget(self, kind: Kind, before_ms: int) -> None:
        """Let go of those of panes that start before a time."""
        for key in [k for k in self._held if k[0] is kind and k[2] < before_ms]:
            del self._held[key]
            self._store.delete(self._name(key))

    def load(
        self, stored: Iterable[tuple[str, bytes]], first_ms: dict[Kind, int]
    ) -> Iterator[tuple[RawKey, PaneSnapshot]]:
        """Yield those of this meaning, of panes from the first one of their kind on; delete the others."""
        for name, value in stored:
            _, _, kind_text, *numbers = name.split("|")
            partition, start, part = map(int, numbers)
            key = (Kind(kind_text), partition, start, part)
            meaning, snapshot = decode_raw(value)
            if meaning == self._meaning and key[0] in first_ms and start >= first_ms[key[0]]:
                self._held[key] = compared(snapshot)
                yield key, snapshot
            else:
                self._store.delete(name)

    def _name(self, key: RawKey) -> str:
        return f"raw|{self._surface}|{key[0]}|{key[1]}|{key[2]}|{key[3]}"
