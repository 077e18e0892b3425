"""How far event time has come over all source partitions: what may close."""

from monitor.config import Config
from monitor.partition import pane_clock
from monitor.snapshots import Kind, SourceProgress


class Progress:
    """The latest progress of every source partition, merged by minimum of watermarks.

    Nothing closes before every partition of a topic has been heard from. A partition that
    was read to its end and is silent (idle) holds nothing back; one that lags does.
    """

    def __init__(self, config: Config) -> None:
        """Nothing heard yet."""
        self._clocks = {kind: pane_clock(config, kind) for kind in Kind}
        self.sources: dict[tuple[Kind, int], SourceProgress] = {}

    def update(self, source: SourceProgress) -> None:
        """Take a partition's progress; a stale report does not move it back."""
        key = (source.kind, source.partition)
        held = self.sources.get(key)
        if held is None or source.position >= held.position:
            self.sources[key] = source

    def watermark_ms(self, kind: Kind) -> int:
        """The event time that all live partitions of the kind have reached; 0 if unknown.

        When all are idle: the largest any of them reached.
        """
        sources = [s for (k, _), s in self.sources.items() if k is kind]
        if not sources or len(sources) < max(s.partitions for s in sources):
            return 0
        live = [s.watermark_ms for s in sources if not s.idle]
        return min(live) if live else max(s.watermark_ms for s in sources)

    def _silent(self, kind: Kind) -> bool:
        """Whether every partition of the kind has been heard from and is idle."""
        sources = [s for (k, _), s in self.sources.items() if k is kind]
        complete = bool(sources) and len(sources) >= max(s.partitions for s in sources)
        return complete and all(s.idle for s in sources)

    def complete_through(self, kind: Kind) -> int:
        """Panes of the kind that end at or before this time are closed in every live partition.

        For engagements this is the time through which impressions have matured: it needs both
        topics, and the attribution window on top of the allowed lateness. Engagement partitions
        that are all idle hold nothing back.
        """
        reached = self.watermark_ms(Kind.IMPRESSIONS)
        if kind is Kind.ENGAGEMENTS and not self._silent(Kind.ENGAGEMENTS):
            reached = min(reached, self.watermark_ms(Kind.ENGAGEMENTS))
        return self._clocks[kind].closed_through(reached)
