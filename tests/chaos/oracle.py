"""After the chaos: everything in the topics against a recount of the log and against a calm run of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alerts.events import AlertEvent, Series, decode_event
from monitor.snapshots import Kind, PaneSnapshot
from monitor.verdicts import Verdict, decode_verdict
from streams.verify.compare import sums_of, without_zeros
from streams.verify.recount import ACCEPTED, Cell, Judged, LogRecord, Sums, recount
from tests.chaos.calm import VerdictKey, calm_alerts, calm_verdicts, key_of
from tests.support.pipeline import Pipeline, Received

Pane = tuple[str, str, int, int]
"""Surface, kind, source partition, start."""
Letter = tuple[str, int, int, str]
"""Topic, partition, offset, reason."""

SHOWN_DIFFERENCES = 20


@dataclass
class Findings:
    """What was compared, and every difference in words."""

    counts: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def differ(self, what: str, wanted: object, found: object) -> None:
        """Note a difference."""
        self.differences.append(f"{what}: wanted {wanted}, found {found}")

    def same(self, what: str, wanted: Mapping[Any, object], found: Mapping[Any, object]) -> None:
        """Compare two mappings key by key."""
        self.counts[f"{what} compared"] += len(wanted)
        for key in sorted(wanted.keys() | found.keys(), key=str):
            if wanted.get(key) != found.get(key):
                self.differ(f"{what} {key}", wanted.get(key), found.get(key))

    def describe(self) -> str:
        """The differences, the first of them."""
        shown = [text[:600] for text in self.differences[:SHOWN_DIFFERENCES]]
        return "\n".join([f"{len(self.differences)} differences", *shown])


class Oracle:
    """Knows from the log alone what has to be in the other topics. Make it when the traffic has stopped."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._config = pipeline.config
        self.log = read_log(pipeline)
        self._judged = recount(self._config, self.log)
        verdicts = calm_verdicts(self._config, self.log, self._config.kafka.partitions)
        self.verdicts: dict[VerdictKey, Verdict] = {key_of(verdict): verdict for verdict in verdicts}
        self.alerts = calm_alerts(self._config, verdicts)

    def missing_verdicts(self) -> int:
        """How many verdicts are still to come."""
        return len(self.verdicts.keys() - {key_of(verdict) for verdict in self._said()})

    def compare(self, written: Mapping[str, int]) -> Findings:
        """Compare everything; `written` says how many records of each kind the traffic had."""
        findings = Findings()
        findings.same("records", dict(written), Counter(record.kind for record in self.log))
        findings.same("panes", self._panes_wanted(), self._panes_found())
        findings.same("dead letters", *self._letters(findings))
        findings.same("verdicts", self.verdicts, self._first_verdicts(findings))
        self._compare_alerts(findings)
        totals = Counter(judged.fate for judged in self._judged)
        findings.counts.update({f"events {fate}": count for fate, count in totals.items()})
        return findings

    def keep(self, directory: Path) -> None:
        """Put what was said, in the order of the topics, into files: for whoever looks for the cause."""
        topics = self._pipeline.topics
        for name in ("verdicts", "alerts"):
            with (directory / f"{name}.jsonl").open("wb") as file:
                for record in self._pipeline.read(getattr(topics, name)):
                    about = f"{record.partition}\t{record.offset}\t{record.record_ms}\t".encode()
                    file.write(about + (record.value or b"") + b"\n")

    # --- panes -------------------------------------------------------------------------

    def _panes_wanted(self) -> dict[Pane, Sums]:
        wanted: dict[Pane, Sums] = {}
        for judged in self._judged:
            for pane, entry, measures in _added(judged):
                held = wanted.setdefault(pane, {}).setdefault(entry, [0] * len(measures))
                for place, amount in enumerate(measures):
                    held[place] += amount
        return {pane: without_zeros(sums) for pane, sums in wanted.items()}

    def _panes_found(self) -> dict[Pane, Sums]:
        parts: dict[Pane, list[PaneSnapshot]] = {}
        held: dict[tuple[str, Kind, int, int, int], PaneSnapshot] = self._pipeline.panes()
        for (surface, kind, partition, start_ms, _), snapshot in held.items():
            parts.setdefault((surface, kind.value, partition, start_ms), []).append(snapshot)
        return {
            pane: without_zeros(sums_of(self._config, Kind(pane[1]), snapshots))
            for pane, snapshots in parts.items()
        }

    # --- dead letters ------------------------------------------------------------------

    def _letters(self, findings: Findings) -> tuple[dict[Letter, bytes | None], dict[Letter, bytes | None]]:
        topics = self._pipeline.topics
        wanted = {
            (getattr(topics, j.record.kind), j.record.partition, j.record.offset, j.fate): j.record.value
            for j in self._judged
            if j.fate != ACCEPTED
        }
        found: dict[Letter, bytes | None] = {}
        for letter in self._pipeline.read(topics.dead_letter):
            about = letter.headers
            key = (about["topic"], int(about["partition"]), int(about["offset"]), about["reason"])
            findings.counts["dead letters repeated"] += key in found
            found[key] = letter.value
        return wanted, found

    # --- verdicts and alerts -----------------------------------------------------------

    def _said(self) -> Iterable[Verdict]:
        for record in self._pipeline.read(self._pipeline.topics.verdicts):
            yield decode_verdict(record.value or b"")

    def _first_verdicts(self, findings: Findings) -> dict[VerdictKey, Verdict]:
        first: dict[VerdictKey, Verdict] = {}
        for verdict in self._said():
            findings.counts["verdicts repeated"] += key_of(verdict) in first
            first.setdefault(key_of(verdict), verdict)
        return first

    def _compare_alerts(self, findings: Findings) -> None:
        """Every transition once, in order, and the same as in calm."""
        history: dict[Series, list[AlertEvent]] = {}
        for record in self._pipeline.read(self._pipeline.topics.alerts):
            event = decode_event(record.value or b"")
            history.setdefault(event.series, []).append(event)
            findings.counts[f"alerts {event.state.value}"] += 1
        for series in sorted(self.alerts.keys() | history.keys()):
            wanted, found = ([_said_of(e) for e in each.get(series, [])] for each in (self.alerts, history))
            findings.counts["transitions"] += len(wanted)
            once = Counter((event[0], event[1], event[2]) for event in found)
            twice = [transition for transition, count in once.items() if count > 1]
            if twice:
                findings.differ(f"transitions more than once of {series}", "none", twice)
            if wanted != found:
                findings.differ(f"transitions of {series}", wanted, found)


def read_log(pipeline: Pipeline) -> list[LogRecord]:
    """Both source topics, each partition in its order."""
    kinds = {pipeline.topics.impressions: "impressions", pipeline.topics.engagements: "engagements"}
    return [_log_record(kinds[record.topic], record) for record in pipeline.read(*kinds)]


def _log_record(kind: str, record: Received) -> LogRecord:
    return LogRecord(kind, record.partition, record.offset, record.record_ms, record.value)


def _added(judged: Judged) -> Iterable[tuple[Pane, tuple[Cell, int], tuple[int, ...]]]:
    for c in judged.contributions:
        pane = (c.surface, judged.record.kind, judged.record.partition, c.pane_start_ms)
        yield pane, (c.cell, c.bucket), c.measures


def _said_of(event: AlertEvent) -> tuple[str, str, int, str, str]:
    return (event.id, event.state.value, event.at_ms, event.reason.value, json.dumps(event.verdict.verdict))
