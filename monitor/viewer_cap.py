"""A cap on what one viewer counts for in a session, so that a bot is not a crowd.

A session is a block of event time of one length, aligned to the epoch. An event counts as a whole as long as
its viewer's earlier events of the session hold fewer contributions than the cap; one of engagements has its
count by itself for each action. Viewers are told apart by the hash that chooses their bucket: of a million
viewers in a session, one in 4,300 shares it with another.

Like lateness, it is a function of a partition's log alone: every event that is not ahead of its record's time
uses up the cap, late or not, in the order of the log. So a reader that begins at the first event of every
session that is not over comes to the same counts.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.config.model import ViewerCap

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class _Session:
    """Contributions so far of each viewer (about 100 bytes a viewer)."""

    def __init__(self, first_offset: int) -> None:
        self.first_offset = first_offset
        self.counts: dict[int, int] = {}

    def before(self, actor: Ints, size: Ints, most: int) -> Ints:
        """(N,) contributions of each event's viewer before the event, and count the events; in log order."""
        order = np.argsort(actor, kind="stable")
        ordered, sizes = actor[order], size[order]
        first = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
        total = np.cumsum(sizes) - sizes
        group = np.repeat(np.arange(len(first)), np.diff(first, append=len(ordered)))
        viewers = ordered[first].tolist()
        held = np.array([self.counts.get(viewer, 0) for viewer in viewers], dtype=np.int64)
        added = np.add.reduceat(sizes, first)
        after = np.minimum(held + added, most)  # a bot's count stays a small number
        self.counts.update(zip(viewers, after.tolist(), strict=True))
        found = np.empty_like(total)
        found[order] = total - total[first][group] + held[group]
        return found


class ViewerCounts:
    """What the viewers of one source partition have used up, in the sessions that are not over."""

    def __init__(self, cap: ViewerCap, close_delay_ms: int) -> None:
        """``close_delay_ms``: panes close when the watermark has passed their end by so much."""
        self._most = int(cap.contributions)
        self._length_ms = int(cap.per)
        self._close_delay_ms = close_delay_ms
        self._sessions: dict[int, _Session] = {}

    def capped(self, actor: Ints, anchor_ms: Ints, size: Ints, offset: Ints) -> Flags:
        """Count events, and say which of them are beyond the cap.

        Args:
            actor: (E,) who is counted: the viewer's hash, with the action.
            anchor_ms: (E,) time of the impression, which chooses the session.
            size: (E,) contributions.
            offset: (E,) ascending.
        """
        found = np.zeros(len(actor), dtype=np.bool_)
        number = anchor_ms // self._length_ms
        for session in np.unique(number).tolist():
            rows = np.flatnonzero(number == session)
            counts = self._sessions.get(session)
            if counts is None:
                counts = self._sessions[session] = _Session(int(offset[rows[0]]))
            found[rows] = counts.before(actor[rows], size[rows], self._most) >= self._most
        return found

    def forget(self, watermark_ms: int) -> None:
        """Let go of sessions whose panes have all closed: their events are late now, capped or not."""
        over = watermark_ms - self._close_delay_ms
        for session in [s for s in self._sessions if (s + 1) * self._length_ms <= over]:
            del self._sessions[session]

    def needed_by(self, pane_start_ms: int) -> int:
        """The first offset that the sums of an open pane depend on: that of its session's first event."""
        return self._sessions[pane_start_ms // self._length_ms].first_offset

    @property
    def first_offsets(self) -> list[int]:
        """The first offset that each session still needs."""
        return [session.first_offset for session in self._sessions.values()]
