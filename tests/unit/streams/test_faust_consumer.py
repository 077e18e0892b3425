"""Faust's consumer asks for the ends of partitions also while it loses them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from monitor.config import parse_config
from streams.faust_app import build_app
from streams.faust_consumer import SteadyConsumer
from tests.support.dashboards import DEPLOY

CONFIG = parse_config((DEPLOY / "fairstream.yaml").read_text())
HELD, LOST = TP("panes", 0), TP("panes", 1)


def test_the_end_of_a_lost_partition_is_not_known() -> None:
    """In aiokafka the question fails; it is asked for every record and every page."""

    async def ends() -> list[int]:
        consumer = build_app(CONFIG, "monitor", "monitor-1", 0).consumer
        assert isinstance(consumer, SteadyConsumer)
        subscription = SubscriptionState()
        consumer._thread.thread_loop.close()  # of a thread that never starts
        consumer._thread._consumer = SimpleNamespace(_subscription=subscription)
        before = consumer.highwater(HELD)
        subscription.subscribe(topics={"panes"})
        unassigned = consumer.highwater(HELD)
        subscription.assign_from_subscribed({HELD, LOST})
        unread = consumer.highwater(LOST)
        for tp in (HELD, LOST):
            subscription.subscription.assignment.state_value(tp).highwater = 7
        known = consumer.highwater(LOST)
        subscription.assign_from_subscribed({HELD})
        return [before, unassigned, unread, known, consumer.highwater(LOST), consumer.highwater(HELD)]

    assert asyncio.run(ends()) == [0, 0, 0, 7, 0, 0]
