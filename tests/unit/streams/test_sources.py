"""Questions to a broker that cannot answer just now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from monitor.partition import Resume
from streams import sources
from streams.sources import BrokerError, ask_again, commit, committed


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr(sources, "ASK_AGAIN_S", 0.0)


def answers(*given: int | str) -> Callable[[], str]:
    """Return a question that has these answers one after another; numbers are error codes."""
    left: Iterator[int | str] = iter(given)

    def ask() -> str:
        answer = next(left)
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer

    return ask


def test_a_question_is_asked_again_until_there_is_a_leader() -> None:
    """As when a topic has just been made, or its leader has just died."""
    away = KafkaError.NOT_LEADER_FOR_PARTITION
    assert ask_again(answers(away, KafkaError._TIMED_OUT, away, "here")) == "here"


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an exception that a callback may raise."""
    monkeypatch.setattr(sources, "PATIENCE_S", 0.0)
    with pytest.raises(BrokerError, match="leader"):
        ask_again(answers(KafkaError.NOT_LEADER_FOR_PARTITION, "too late"))


def test_a_client_that_is_lost_does_not_ask_again() -> None:
    """Another process has its name."""
    with pytest.raises(BrokerError):
        ask_again(answers(KafkaError.FENCED_INSTANCE_ID, "somebody else's"))


def test_no_answer_is_not_no_commit() -> None:
    """Or a partition would be read from its beginning, and counted again."""

    def told(offset: int, error: int | None) -> Any:
        return SimpleNamespace(offset=offset, error=None if error is None else KafkaError(error))

    left = iter(
        [
            [told(7, None), told(-1001, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)],
            [told(7, None), told(9, None)],
        ]
    )
    consumer = cast(Consumer, SimpleNamespace(committed=lambda _, timeout: next(left)))  # noqa: ARG005
    found = committed(consumer, [TopicPartition("t", 0), TopicPartition("t", 1)])
    assert [tp.offset for tp in found] == [7, 9]


def test_a_commit_of_a_lost_client_ends_it() -> None:
    """Whoever calls it, also while partitions are being given up."""

    def refuse(**_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.FENCED_INSTANCE_ID))

    state = SimpleNamespace(commit_point=lambda: (3, Resume()))
    source = cast(Any, SimpleNamespace(state=state, committed=None))
    with pytest.raises(BrokerError):
        commit(cast(Consumer, SimpleNamespace(commit=refuse)), {("t", 0): source})
