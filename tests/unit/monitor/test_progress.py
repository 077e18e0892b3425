from __future__ import annotations

import pytest

from monitor.config import Config, parse_config
from monitor.progress import Progress
from monitor.snapshots import Kind, SourceProgress

SECOND = 1000


@pytest.fixture
def progress() -> Progress:
    """Return nothing heard of; impressions close after 5 s, engagements after 25 s."""
    config: Config = parse_config(
        "surfaces: [home]\nwindows: [{length: 1m, slide: 10s}]\n"
        "time: {pane: 10s, allowed_lateness: 5s}\n"
        "engagement: {actions: [save], attribution_window: 20s, pane: 10s}"
    )
    return Progress(config)


def tell(
    progress: Progress,
    partition: int,
    watermark_s: int,
    *,
    position: int = 1,
    partitions: int = 2,
    idle: bool = False,
    lag: int = 0,
    kind: Kind = Kind.IMPRESSIONS,
) -> None:
    """Report a partition's progress."""
    source = SourceProgress(kind, str(kind), partition, partitions, watermark_s * SECOND, position, lag, idle)
    progress.update(source)


def test_nothing_closes_before_all_partitions_were_heard_from(progress: Progress) -> None:
    """An unknown partition holds back as if it were at the beginning."""
    tell(progress, 0, 100)
    assert progress.complete_through(Kind.IMPRESSIONS) == 0
    tell(progress, 1, 60)
    assert progress.watermark_ms(Kind.IMPRESSIONS) == 60 * SECOND
    assert progress.complete_through(Kind.IMPRESSIONS) == 50 * SECOND


def test_a_lagging_partition_holds_back(progress: Progress) -> None:
    """A partition that is silent because it is behind is not idle."""
    tell(progress, 0, 100)
    tell(progress, 1, 20, lag=500)
    assert progress.complete_through(Kind.IMPRESSIONS) == 10 * SECOND


def test_an_idle_partition_does_not(progress: Progress) -> None:
    """One that was read to its end and is silent holds nothing back, with events before or without."""
    for watermark_s in (0, 20):
        tell(progress, 0, 100)
        tell(progress, 1, watermark_s, idle=True)
        assert progress.complete_through(Kind.IMPRESSIONS) == 90 * SECOND


def test_when_all_are_idle_the_furthest_counts(progress: Progress) -> None:
    """The last panes close as far as anybody got."""
    tell(progress, 0, 100, idle=True)
    tell(progress, 1, 60, idle=True)
    assert progress.complete_through(Kind.IMPRESSIONS) == 90 * SECOND


def test_an_idle_partition_that_wakes_holds_back_again(progress: Progress) -> None:
    """What was closed stays closed, but nothing more closes until it has caught up."""
    tell(progress, 0, 100)
    tell(progress, 1, 20, idle=True)
    tell(progress, 1, 30, position=2)
    assert progress.watermark_ms(Kind.IMPRESSIONS) == 30 * SECOND


def test_a_stale_report_does_not_go_back(progress: Progress) -> None:
    """A process that was replaced, or re-reads after a crash, moves nothing."""
    tell(progress, 0, 100, position=50)
    tell(progress, 1, 100, position=50)
    tell(progress, 0, 20, position=49)
    assert progress.watermark_ms(Kind.IMPRESSIONS) == 100 * SECOND
    tell(progress, 0, 100, position=50, idle=True)
    assert progress.sources[Kind.IMPRESSIONS, 0].idle


def test_new_partitions_hold_back_until_heard_from(progress: Progress) -> None:
    """When a topic grows, one report of the new number is enough to wait for the others."""
    tell(progress, 0, 100)
    tell(progress, 1, 100)
    tell(progress, 0, 110, partitions=3)
    assert progress.complete_through(Kind.IMPRESSIONS) == 0
    tell(progress, 2, 0, partitions=3, idle=True)
    assert progress.complete_through(Kind.IMPRESSIONS) == 90 * SECOND


def test_engagements_need_both_topics(progress: Progress) -> None:
    """Impressions mature when both topics are past the attribution window and the lateness."""
    for partition in (0, 1):
        tell(progress, partition, 100)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 0
    for partition in (0, 1):
        tell(progress, partition, 80, kind=Kind.ENGAGEMENTS)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 50 * SECOND
    for partition in (0, 1):
        tell(progress, partition, 200, kind=Kind.ENGAGEMENTS, position=2)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 70 * SECOND


def test_silent_engagements_hold_nothing_back(progress: Progress) -> None:
    """Nobody engages at night; impressions mature all the same."""
    for partition in (0, 1):
        tell(progress, partition, 100)
        tell(progress, partition, 0, kind=Kind.ENGAGEMENTS, idle=True)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 70 * SECOND


def test_half_silent_engagements_wait_for_the_live_half(progress: Progress) -> None:
    """One live partition of engagements holds back, and so does one that was never heard from."""
    for partition in (0, 1):
        tell(progress, partition, 100)
    tell(progress, 0, 0, kind=Kind.ENGAGEMENTS, idle=True)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 0
    tell(progress, 1, 60, kind=Kind.ENGAGEMENTS)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 30 * SECOND


def test_a_grown_engagement_topic_is_not_silent_yet(progress: Progress) -> None:
    """Idle partitions of a topic that has more of them than were heard from do not make it silent."""
    for partition in (0, 1):
        tell(progress, partition, 100)
    tell(progress, 0, 0, kind=Kind.ENGAGEMENTS, partitions=1, idle=True)
    tell(progress, 1, 0, kind=Kind.ENGAGEMENTS, partitions=3, idle=True)
    assert progress.complete_through(Kind.ENGAGEMENTS) == 0
