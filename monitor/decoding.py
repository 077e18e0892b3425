"""From a batch of records to columns: the only Python work done per event."""

from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from monitor.cells import UNKNOWN
from monitor.columns import NO_TIME, Columns, Lists, Parsed
from monitor.config import Config
from monitor.exposure import MAX_POSITION, position_weights
from monitor.parsing import (
    LAST_MS,
    LONGEST_ID,
    LONGEST_NAME,
    MOST_CANDIDATES,
    MOST_POSITION,
    Count,
    Decoder,
    Id,
    Name,
    Position,
    Ts,
    Value,
    values_struct,
)
from monitor.rejections import Reason, Rejected
from monitor.requests import ITEM_MEASURES, RequestMeasures, impression_measures

if TYPE_CHECKING:
    from monitor.arrow_rows import Rows

Ints = NDArray[np.int64]

_HASH_BITS = 32


class ImpressionDecoder(Decoder):
    """Decodes records of ``impressions``: one per request, one contribution per item.

    Measures: impressions, micro-exposure, impressions in the top k; those of each ranking; candidates.
    """

    def __init__(self, config: Config) -> None:
        """Build the record types for the configuration's attributes."""
        attributes = config.attributes
        viewer = values_struct("Viewer", attributes.viewer)
        attrs = values_struct("Attrs", attributes.item)
        item = msgspec.defstruct(
            "Item",
            [
                ("id", Id),
                ("position", Position, 0),
                ("attrs", attrs | None, None),
                ("score", float | None, None),
            ],
            gc=False,
        )
        candidate = msgspec.defstruct(
            "Candidate", [("attrs", attrs | None, None), ("count", Count, 1)], gc=False
        )
        record = msgspec.defstruct(
            "Impression",
            [
                ("ts", Ts),
                ("request_id", Id),
                ("viewer_id", Id),
                ("surface", Name),
                ("items", Annotated[list[item], Meta(min_length=1)]),  # type: ignore[valid-type]
                ("variant", Value, UNKNOWN),
                ("viewer", viewer | None, None),
                *([("candidates", list[candidate] | None, None)] if config.candidates else []),  # type: ignore[valid-type]
            ],
            gc=False,
        )
        super().__init__(config, record, viewer, attrs)
        self._weights = position_weights(config.exposure)
        self._k = config.exposure.k
        self._rankings = RequestMeasures(config) if config.rankings else None
        self._more = impression_measures(config) - ITEM_MEASURES

    def _extract(self, records: list[Any], lists: Lists) -> None:
        self._extract_request(records, lists)
        of_each = [r.items for r in records]
        lists.items += map(len, of_each)
        items = list(chain.from_iterable(of_each))
        lists.place += [item.position for item in items]
        self._extract_attrs(items, lists)
        if self._config.candidates:
            of_each = [r.candidates or () for r in records]
            lists.candidates += map(len, of_each)
            candidates, numbers = list(chain.from_iterable(of_each)), self._coder.items
            lists.candidate += [numbers[each.attrs] for each in candidates]
            lists.count += [each.count for each in candidates]

    def _from_arrow(self, rows: "Rows") -> Parsed:
        counts, items = rows.each("items")
        items.check_text("id", LONGEST_ID)
        items.numeric("score")
        place = items.whole("position", 1, MOST_POSITION, absent=0)
        item = self._arrow_attrs(items)
        rows.blame(items, np.repeat(np.arange(len(rows)), counts))
        return self._of_arrow(rows, counts, item, place, candidates=self._arrow_candidates(rows))

    def _arrow_candidates(self, rows: "Rows") -> tuple[Ints, Ints, Ints] | None:
        """How many entries each row has, the number of each entry's values, and its count."""
        found = rows.any_of("candidates") if self._config.candidates else None
        if found is None:
            return None
        counts, inner = found
        count = inner.whole("count", 1, MOST_CANDIDATES, absent=1)
        candidate = self._arrow_attrs(inner)
        rows.blame(inner, np.repeat(np.arange(len(rows)), counts))
        return counts, candidate, count

    def _columns(self, parsed: Parsed, rejected: list[Rejected]) -> Columns:
        counts, given = parsed.items, parsed.place
        event = np.repeat(np.arange(len(counts)), counts)
        implied = np.arange(1, len(given) + 1) - (np.cumsum(counts) - counts)[event]
        position = np.where(given > 0, given, implied)
        measure = np.empty((len(given), 3), dtype=np.int64)
        measure[:, 0] = 1
        measure[:, 1] = self._weights[np.minimum(position, MAX_POSITION)]
        measure[:, 2] = position <= self._k
        requests, items, viewer = parsed.request, parsed.item, parsed.hash
        columns = Columns(
            index=parsed.index,
            row=parsed.row,
            ts_ms=parsed.ts_ms,
            anchor_ms=parsed.ts_ms,
            event=event,
            surface=parsed.surface[event],
            cell=self._coder.cells(requests[event], items),
            names=self._coder.names,
            bucket=(viewer % self._config.limits.buckets)[event],
            measure=measure,
            actor=viewer,
            rejected=rejected,
        )
        of_requests = np.zeros((len(counts), self._more), dtype=np.int64)
        if self._rankings is not None:
            found = self._rankings.measures(self._coder.items.names, items, event, position)
            of_requests[: len(found), : found.shape[1]] = found
        return self._with_more(columns, parsed, of_requests) if self._more else columns

    def _with_more(self, columns: Columns, parsed: Parsed, of_requests: Ints) -> Columns:
        """With what requests (E, N) add to their own cells, and their candidates."""
        ranked = np.flatnonzero(of_requests.any(axis=1))
        chosen = np.repeat(np.arange(len(parsed.candidates)), parsed.candidates)
        of_candidates = np.zeros((len(chosen), self._more), dtype=np.int64)
        if self._config.candidates:
            of_candidates[:, -1] = parsed.count
        no_item = np.full_like(ranked, self._coder.no_item or 0)
        event = np.concatenate((ranked, chosen))
        order = np.argsort(event, kind="stable")
        cell = self._coder.cells(parsed.request[event], np.concatenate((no_item, parsed.candidate)))
        measure = np.concatenate((of_requests[ranked], of_candidates))
        last = np.cumsum(parsed.items)[event] - 1
        return columns.with_more(last[order], cell[order], measure[order])


class EngagementDecoder(Decoder):
    """Decodes records of ``engagements``: one contribution each, credited to its impression's pane.

    Measures: one count per configured action. Other actions are accepted and contribute nothing.
    """

    def __init__(self, config: Config) -> None:
        """Build the record types for the configuration's attributes and actions."""
        viewer = values_struct("Viewer", config.attributes.viewer)
        attrs = values_struct("Attrs", config.attributes.item)
        record = msgspec.defstruct(
            "Engagement",
            [
                ("ts", Ts),
                ("request_id", Id),
                ("viewer_id", Id),
                ("surface", Name),
                ("item_id", Id),
                ("action", Name),
                ("impression_ts", Ts | None, None),
                ("variant", Value, UNKNOWN),
                ("viewer", viewer | None, None),
                ("attrs", attrs | None, None),
            ],
            gc=False,
        )
        super().__init__(config, record, viewer, attrs)
        self._actions = {action: i for i, action in enumerate(config.engagement.actions)}
        self._window = config.engagement.attribution_window

    def _extract(self, records: list[Any], lists: Lists) -> None:
        self._extract_request(records, lists)
        lists.anchor_ms += [NO_TIME if r.impression_ts is None else r.impression_ts for r in records]
        lists.items += [1] * len(records)
        lists.place += [self._actions.get(r.action, -1) for r in records]
        self._extract_attrs(records, lists)

    def _from_arrow(self, rows: "Rows") -> Parsed:
        rows.check_text("item_id", LONGEST_ID)
        actions = rows.coded("action", LONGEST_NAME, required=True)
        numbers = np.array([self._actions.get(action or "", -1) for action in actions.values])
        anchor = rows.whole("impression_ts", 1, LAST_MS, absent=NO_TIME)
        each = np.ones(len(rows), dtype=np.int64)
        item, action = self._arrow_attrs(rows), numbers[actions.codes]
        return self._of_arrow(rows, each, item, action, anchor_ms=anchor)

    def _columns(self, parsed: Parsed, rejected: list[Rejected]) -> Columns:
        ts, anchor = parsed.ts_ms, parsed.anchor_ms
        refused = (anchor == NO_TIME) | (anchor > ts) | (ts - anchor > self._window)
        rejected += [
            Rejected(
                int(parsed.index[i]),
                *self._refusal(int(ts[i]), int(anchor[i])),
                row=int(parsed.row[i]),
            )
            for i in np.flatnonzero(refused).tolist()
        ]
        good = np.flatnonzero(~refused)
        action = parsed.place[good]
        event = np.flatnonzero(action >= 0)
        row = good[event]
        viewer = parsed.hash[good]
        measure = np.zeros((len(event), len(self._actions)), dtype=np.int64)
        measure[np.arange(len(event)), action[event]] = 1
        return Columns(
            index=parsed.index[good],
            row=parsed.row[good],
            ts_ms=ts[good],
            anchor_ms=anchor[good],
            event=event,
            surface=parsed.surface[row],
            cell=self._coder.cells(parsed.request[row], parsed.item[row]),
            names=self._coder.names,
            bucket=(viewer % self._config.limits.buckets)[event],
            measure=measure,
            actor=viewer + ((action + 1) << _HASH_BITS),
            rejected=rejected,
        )

    def _refusal(self, ts_ms: int, impression_ms: int) -> tuple[Reason, str]:
        if impression_ms == NO_TIME:
            return Reason.UNATTRIBUTED, "no impression_ts (joining by request_id is not built yet)"
        if impression_ms > ts_ms:
            return Reason.INVALID, "impression_ts is after ts"
        return Reason.UNATTRIBUTED, f"more than {self._window} after its impression"
