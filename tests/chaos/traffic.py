"""Steady traffic for chaos: seeded, with bad and late records, and with disparities that come and go."""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message, Producer

from monitor.config import Config
from streams.clients import producer_settings
from tests.support.events import engagement, impression

SURFACES = ("home", "inbox", "explore", "search")
"""By their crc32 each is in another one of four partitions, so that every monitor has work."""
CYCLE_MS = 32_000
"""Tone 3 is gone from a surface, and women save little there, for the last third of each cycle."""
VIEWERS = 500
OVERSIZED_BYTES = 20_000
_TONES = {True: (4, 3, 0, 1), False: (4, 3, 2, 1)}
_DELIVERY_TIMEOUT_S = 300.0


class Event(NamedTuple):
    """A record and when it is to be written."""

    due_ms: int
    number: int
    kind: str
    key: bytes
    value: bytes | None


def disparity(surface: str, ts_ms: int) -> bool:
    """Whether the planted disparity is there; surfaces take turns."""
    turn_ms = SURFACES.index(surface) * CYCLE_MS // len(SURFACES)
    return (ts_ms + turn_ms) % CYCLE_MS >= CYCLE_MS * 2 // 3


def events(seed: int, start_ms: int, rate: float) -> Iterator[Event]:
    """Yield the traffic in the order of writing, without end; `rate` is impressions (requests) a second."""
    draw = random.Random(seed)
    waiting: list[Event] = []
    now_ms = float(start_ms)
    number = 0
    while True:
        now_ms += draw.expovariate(rate / 1000)
        number += 1
        while waiting and waiting[0].due_ms <= now_ms:
            yield heapq.heappop(waiting)
        ts_ms = int(now_ms) - _behind_ms(draw)
        viewer, surface = f"u-{draw.randrange(VIEWERS)}", draw.choice(SURFACES)
        about: dict[str, Any] = {"viewer": {"gender": draw.choice("fm")}, "surface": surface}
        supply = [{"attrs": {"skin_tone": tone}, "count": draw.randint(1, 9)} for tone in "1234"]
        shown = impression(ts_ms, viewer, tones=_tones(draw, surface, ts_ms), candidates=supply, **about)
        yield Event(int(now_ms), number, "impressions", viewer.encode(), _spoilt(draw, shown))
        if draw.random() < _chance(about, ts_ms):
            acted = _reaction(draw, ts_ms, viewer, about)
            heapq.heappush(waiting, acted._replace(number=number))


def _tones(draw: random.Random, surface: str, ts_ms: int) -> tuple[str, ...]:
    return tuple(draw.choices("1234", weights=_TONES[disparity(surface, ts_ms)], k=3))


def _chance(about: dict[str, Any], ts_ms: int) -> float:
    hit = about["viewer"]["gender"] == "f" and disparity(about["surface"], ts_ms)
    return 0.05 if hit else 0.4


def _reaction(draw: random.Random, shown_ms: int, viewer: str, about: dict[str, Any]) -> Event:
    """An engagement that is due within the attribution window, now and then after it."""
    due_ms = shown_ms + draw.randrange(4_000 if draw.random() < 0.98 else 12_000)
    known = None if draw.random() < 0.01 else shown_ms
    attrs = {"skin_tone": draw.choice("1234")}
    value = engagement(due_ms, known, viewer, attrs=attrs, **about)
    return Event(due_ms, 0, "engagements", viewer.encode(), _spoilt(draw, value))


def _behind_ms(draw: random.Random) -> int:
    """Most events come in order, some within the allowed lateness, a few later."""
    chance = draw.random()
    if chance < 0.01:
        return draw.randrange(5_000, 9_000)
    return draw.randrange(1_500) if chance < 0.1 else 0


def _spoilt(draw: random.Random, value: bytes) -> bytes | None:
    """One record in a hundred is bad, each in its own way."""
    if draw.random() >= 0.01:
        return value
    record = json.loads(value)
    spoilt: list[bytes | None] = [
        None,
        value[:-1],
        json.dumps({**record, "ts": "soon"}).encode(),
        json.dumps({**record, "ts": record["ts"] + 3_600_000}).encode(),
        json.dumps({**record, "padding": "x" * OVERSIZED_BYTES}).encode(),
    ]
    return draw.choice(spoilt)


class Writer(threading.Thread):
    """Writes the traffic at the speed of the clock from `start()` to `finish()`, whatever the broker does."""

    def __init__(self, config: Config, seed: int, rate: float) -> None:
        super().__init__(name="traffic", daemon=True)
        self.written: Counter[str] = Counter()
        self.refused = 0
        self._topics = {
            "impressions": config.kafka.topics.impressions,
            "engagements": config.kafka.topics.engagements,
        }
        settings = producer_settings(config.kafka) | {
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": int(_DELIVERY_TIMEOUT_S * 1000),
            "on_delivery": self._delivered,
            "log_level": 0,
        }
        self._producer = Producer(settings)
        self._seed = seed
        self._rate = rate
        self._stopping = threading.Event()

    def run(self) -> None:
        """Write each event when it is due."""
        for event in events(self._seed, _now_ms(), self._rate):
            while (left_ms := event.due_ms - _now_ms()) > 0 and not self._stopping.is_set():
                self._producer.poll(0)
                self._stopping.wait(left_ms / 1000)
            if self._stopping.is_set():
                return
            self._producer.produce(self._topics[event.kind], event.value, event.key)
            self.written[event.kind] += 1

    def finish(self) -> None:
        """Stop, and wait until the broker has everything."""
        self._stopping.set()
        self.join()
        left = self._producer.flush(_DELIVERY_TIMEOUT_S)
        assert left == 0, f"{left} records of the traffic were not taken by the broker"
        assert self.refused == 0, f"{self.refused} records of the traffic were refused"

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.refused += 1


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
