"""Holding what fairstream has written and holds against a recount of the log."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message

from monitor.config import Config, meaning_sha256
from monitor.snapshots import Kind, PaneSnapshot, PanesRecord, decode_record, is_partial, supersede
from streams.verify.recount import Sums, by_slice
from streams.verify.tally import Letter, Pane, Tally

_BEFORE_ACTIONS = 3
_OF_RANKING = 5


class Difference(NamedTuple):
    """Something that is not as the log says. Names no slice and no viewer."""

    what: str
    where: str
    wanted: str
    found: str


class Report:
    """What was compared, and what differs."""

    def __init__(self) -> None:
        """Nothing compared yet."""
        self.counts: Counter[str] = Counter()
        self.differences: list[Difference] = []

    def differ(self, what: str, where: str, wanted: object, found: object) -> None:
        """Note a difference."""
        self.differences.append(Difference(what, where, str(wanted), str(found)))

    def sums(self, what: str, where: str, wanted: Sums, found: Sums) -> None:
        """Compare sums to the last integer."""
        self.counts[f"{what}s_compared"] += 1
        for key in wanted.keys() | found.keys():
            amounts = (wanted.get(key), found.get(key))
            if amounts[0] != amounts[1]:
                self.differ(what, f"{where} bucket {key[1]}", *(a or "nothing" for a in amounts))


class PublishedPanes:
    """The panes on ``fairness.panes``, each by the snapshot that supersedes the others; and the positions."""

    def __init__(self, config: Config) -> None:
        """Nothing read yet."""
        self.positions: dict[tuple[str, int], int] = {}
        """How far each source partition was read, by the heartbeats."""
        self.left_out: Counter[str] = Counter()
        """Records that do not count: ``unreadable``, or of an ``other_configuration``."""
        self._config = config
        self._meaning = meaning_sha256(config)
        self._held: dict[Pane, dict[int, PaneSnapshot]] = {}

    def take(self, message: Message) -> None:
        """Take a record of the topic; those of another configuration or version are left out."""
        try:
            record = decode_record(message.value() or b"")
        except (msgspec.DecodeError, ValueError):
            self.left_out["unreadable"] += 1
            return
        if record.meaning != self._meaning:
            self.left_out["other_configuration"] += 1
            return
        if not isinstance(record, PanesRecord):
            for source in record.sources:
                key = (source.kind.value, source.partition)
                self.positions[key] = max(self.positions.get(key, 0), source.position)
            return
        for partition, snapshot in record.each():
            pane = (record.surface, record.kind.value, partition, snapshot.pane_start_ms)
            parts = self._held.setdefault(pane, {})
            first = parts.get(0)
            if first is None or not is_partial(first, snapshot):
                held = parts.get(snapshot.part)
                parts[snapshot.part] = snapshot if held is None else supersede(held, snapshot)

    def first_offset(self, pane: Pane) -> int:
        """Offset of the pane's first event."""
        return self._held[pane][0].first_offset

    def sums(self) -> dict[Pane, Sums]:
        """What each pane sums up to, in all measures."""
        return {
            pane: sums_of(self._config, Kind(pane[1]), parts.values()) for pane, parts in self._held.items()
        }


def sums_of(config: Config, kind: Kind, snapshots: Iterable[PaneSnapshot]) -> Sums:
    """What snapshots say, entry by entry, in all measures; those of both kinds stand beside each other."""
    buckets, after = config.limits.buckets, _BEFORE_ACTIONS + len(config.engagement.actions)
    every = range(after + _OF_RANKING * len(config.rankings) + config.candidates)
    places = list(every[_BEFORE_ACTIONS:after])
    if kind is Kind.IMPRESSIONS:
        places = [*every[:_BEFORE_ACTIONS], *every[after:]]
    sums: Sums = {}
    for snapshot in snapshots:
        for place, amount in zip(*(array.tolist() for array in snapshot.sums()), strict=True):
            cell, rest = divmod(place, buckets * len(places))
            bucket, measure = divmod(rest, len(places))
            key = (tuple(snapshot.cells[cell]), bucket)
            sums.setdefault(key, [0] * len(every))[places[measure]] += amount
    return sums


def without_zeros(sums: Sums) -> Sums:
    """Only the entries that hold something."""
    return {key: amounts for key, amounts in sums.items() if any(amounts)}


def compare_panes(
    report: Report, tally: Tally, published: PublishedPanes, between: tuple[int, int], *, all_there: bool
) -> set[int]:
    """Every closed pane that starts in the stretch; the starts of those that cannot be recounted any more.

    ``all_there``: whether the topic still has its first records; if not, a pane that is missing is gone.
    """
    found = published.sums()
    gone: set[int] = set()
    for pane in sorted(tally.panes.keys() | found.keys()):
        surface, kind, partition, start_ms = pane
        if not between[0] <= start_ms < between[1]:
            continue
        begun = tally.begins.get((kind, partition), 0)
        if (pane not in found and not all_there) or (pane in found and published.first_offset(pane) < begun):
            report.counts["panes_gone"] += 1
            gone.add(start_ms)
        elif not tally.closed(pane):
            report.counts["panes_open"] += 1
        else:
            wanted = without_zeros(tally.panes.get(pane, {}))
            where = f"{surface} {kind}/{partition} at {start_ms}"
            report.sums("pane", where, wanted, without_zeros(found.get(pane, {})))
    return gone


def compare_windows(
    report: Report, config: Config, tally: Tally, windows: Iterable[Mapping[str, Any]], gone: set[int]
) -> None:
    """What monitor holds (the entries of its page ``/-/windows``), in every dimension."""
    for window in windows:
        surface, start_ms, end_ms = window["surface"], window["start_ms"], window["end_ms"]
        if any(start_ms <= start < end_ms for start in gone):
            report.counts["windows_gone"] += 1
            continue
        matured = window["view"] == "matured"
        wanted = tally.window(surface, start_ms, end_ms)
        for dimension, slices in window["dimensions"].items():
            held: Sums = {
                ((slice_,), bucket): amounts
                for slice_, rows in slices.items()
                for bucket, amounts in enumerate(rows)
            }
            where = f"{surface} {window['window']} {window['view']} until {end_ms}, {dimension}"
            report.sums(
                "window",
                where,
                _settled(config, by_slice(config, wanted, dimension), matured=matured),
                _settled(config, held, matured=matured),
            )


def _settled(config: Config, sums: Sums, *, matured: bool) -> Sums:
    """Engagements of a window are final only when they have matured."""
    after = _BEFORE_ACTIONS + len(config.engagement.actions)
    final = sums if matured else {k: [*a[:_BEFORE_ACTIONS], *a[after:]] for k, a in sums.items()}
    return without_zeros(final)


def compare_letters(
    report: Report, tally: Tally, found: Iterable[tuple[Letter, str]], *, all_there: bool
) -> None:
    """Each rejected record stands among the dead letters with its reason, and nothing else does."""
    reasons: dict[Letter, str] = {}
    for letter, reason in found:
        if letter[2] < tally.ends.get(letter[:2], 0):  # later ones came after the log was read
            report.counts["dead_letters_repeated"] += letter in reasons
            reasons[letter] = reason
    for letter in sorted(tally.rejected.keys() | reasons.keys()):
        wanted, here = tally.rejected.get(letter), reasons.get(letter)
        if here is None and not all_there:
            report.counts["dead_letters_gone"] += 1
            continue
        report.counts["dead_letters_compared"] += 1
        if wanted != here:
            where = f"{letter[0]}/{letter[1]} offset {letter[2]}" + (f" row {letter[3]}" * (letter[3] >= 0))
            report.differ("dead letter", where, wanted or "none", here or "none")
