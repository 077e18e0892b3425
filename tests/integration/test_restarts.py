"""What lies in a topic while its reader is away is read when it is back."""

from __future__ import annotations

import threading
from collections import defaultdict
from itertools import count
from pathlib import Path

from alerts.events import Series, decode_event
from monitor.verdicts import Direction, Estimate, Outcome, ToleranceBand, Verdict, encode_verdict
from tests.chaos.calm import calm_alerts
from tests.conftest import Spawn
from tests.support.pipeline import WAIT_S, Pipeline
from tests.support.processes import Child
from tests.support.wait import wait_for

START_MS = 1_700_000_000_000
PANE_MS = 10_000
KILLS = 4

RULE = {
    "name": "tone",
    "metric": "exposure_share",
    "dimension": "item.skin_tone",
    "window": "1m",
    "compare": "reference",
    "reference": {"targets": {"1": 0.5, "2": 0.5}},
    "for": "20s",
}


def verdict(number: int, slice_: str) -> Verdict:
    """Four panes of seven are a breach, so that alerts come and go."""
    breach = number % 7 in {1, 2, 3, 4}
    return Verdict(
        rule="tone",
        surface="home",
        dimension="item.skin_tone",
        slice_=slice_,
        metric="exposure_share",
        window="1m",
        pane_end_ms=START_MS + number * PANE_MS,
        verdict=Outcome.BREACH if breach else Outcome.OK,
        estimate=Estimate(value=0.5 if breach else 1.0, lower=0.4, upper=1.1, support=100),
        tolerance=ToleranceBand(low=0.8, high=1.25),
        direction=Direction.LOW if breach else Direction.NONE,
    )


class Speaker(threading.Thread):
    """Publishes verdicts without a pause, from `start()` to `finish()`."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(name="speaker", daemon=True)
        self.said: list[Verdict] = []
        self._pipeline = pipeline
        self._stopping = threading.Event()

    def run(self) -> None:
        """One pane after the other, of both slices."""
        for number in count():
            new = [verdict(number, slice_) for slice_ in "12"]
            values = [encode_verdict(each) for each in new]
            self._pipeline.write(self._pipeline.topics.verdicts, values, b"home")
            self.said += new
            if self._stopping.wait(0.05):
                return

    def finish(self) -> list[Verdict]:
        """Stop, and return all that was said."""
        self._stopping.set()
        self.join()
        return self.said


def wait_followed(pipeline: Pipeline, notify: Child, count: int) -> None:
    """Wait until notify has come so far in its only partition, or further."""

    def followed() -> bool:
        status = pipeline.status("notify")
        return status is not None and status["positions"].get("0", 0) >= count

    wait_for(followed, WAIT_S, f"{count} verdicts to be followed", watch=[notify])


def test_no_verdict_is_skipped_after_a_crash(
    bootstrap: str, unique: str, tmp_path: Path, spawn: Spawn, kafka_only: None
) -> None:
    """Killed again and again while verdicts come, notify writes every transition once."""
    pipeline = Pipeline(bootstrap, unique, tmp_path, spawn, rules=[RULE])
    speaker = Speaker(pipeline)
    speaker.start()
    for _ in range(KILLS):
        notify = pipeline.start("notify")
        wait_followed(pipeline, notify, 1)
        notify.kill()
    last = pipeline.start("notify")
    wait_followed(pipeline, last, 1)
    said = speaker.finish()
    wait_followed(pipeline, last, len(said))

    history: dict[Series, list[str]] = defaultdict(list)
    for record in pipeline.read(pipeline.topics.alerts):
        event = decode_event(record.value or b"")
        history[event.series].append(event.transition)
    wanted = calm_alerts(pipeline.config, said)
    assert history == {series: [event.transition for event in events] for series, events in wanted.items()}
