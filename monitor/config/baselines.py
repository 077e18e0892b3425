"""Checks of a rule's learnt baseline."""

from collections.abc import Iterator
from datetime import datetime

from monitor.config.document import Finding
from monitor.config.durations import Duration
from monitor.config.model import BaselineReference, Config, Rule, WindowSpec


def check_baseline(path: tuple[str | int, ...], baseline: BaselineReference) -> Iterator[Finding]:
    """What is wrong with it, whatever the rule."""
    given = (baseline.first, baseline.start or baseline.end, baseline.sliding, baseline.every)
    if sum(each is not None for each in given) != 1 or (baseline.start is None) != (baseline.end is None):
        yield Finding(
            path, "its stretch is unclear", "one of first: 3d, start and end, sliding: 7d, every: 1d"
        )
        return
    if baseline.start is None or baseline.end is None:
        return
    try:
        if not baseline_ms(baseline.start) < baseline_ms(baseline.end):
            yield Finding((*path, "end"), "not after start", "a later time")
    except ValueError:
        yield Finding(path, "not a time with a zone", "ISO 8601 such as 2019-11-24T00:00:00Z")


def check_baseline_of(config: Config, path: tuple[str | int, ...], rule: Rule) -> Iterator[Finding]:
    """What is wrong with it under the rule's window, whole panes of which it learns."""
    window = next((w for w in config.windows if w.name == rule.window), None)
    baseline = rule.reference.baseline if rule.reference is not None else None
    if window is None or baseline is None:
        return
    if baseline.moves and window.slide > 0:
        yield from _moving_baseline((*path, "reference", "baseline"), window, baseline)
    if baseline.first is None:
        return
    if baseline.first < window.slide:
        yield Finding(
            (*path, "reference", "baseline", "first"),
            f"shorter than the slide of its window ({window.slide})",
            f"at least {window.slide}",
        )


def _moving_baseline(
    path: tuple[str | int, ...], window: WindowSpec, baseline: BaselineReference
) -> Iterator[Finding]:
    """Whole panes make bins, whole bins make stretches, and no window is its own reference."""
    bin_ = baseline.bin
    if bin_ <= 0 or bin_ % window.slide:
        yield Finding(
            (*path, "bin"),
            f"not a multiple of its window's slide ({window.slide})",
            f"such as {window.slide}",
        )
        return
    for name in ("sliding", "every"):
        length = getattr(baseline, name)
        if length is not None and (length <= 0 or length % bin_):
            yield Finding(
                (*path, name), f"not a multiple of its bins ({bin_})", f"{bin_}, {Duration(2 * bin_)}, …"
            )
    if baseline.sliding is not None and baseline.lag < window.length:
        yield Finding(
            (*path, "lag"),
            f"shorter than its window ({window.length}), which would be its own reference",
            f"at least {window.length}",
        )
    if baseline.every is not None and baseline.every < window.length + bin_:
        yield Finding(
            (*path, "every"),
            f"shorter than its window and a bin ({window.length}, {bin_}), which would be its own reference",
            f"at least {Duration(window.length + bin_)}",
        )


def baseline_ms(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 time; ValueError without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone, such as Z")
    return int(moment.timestamp() * 1000)
