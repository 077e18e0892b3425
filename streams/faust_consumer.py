"""A Faust consumer that loses no record after a recovery, and neither hangs nor falls without its group."""

from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.exits import stop_outside_of_group
from streams.membership import Membership


class _SteadyThread(aiokafka.AIOKafkaConsumerThread):
    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        Membership(coordinator, self.app.conf.broker_session_timeout, stop_outside_of_group)

    def highwater(self, tp: TP) -> int:
        """The end of a partition as last known; 0 while it is not.

        Also for a partition that the consumer has just lost: aiokafka asserts that it has it, but loses it
        in another thread, before Faust is told.
        """
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        state = assignment.state_value(tp) if assignment is not None else None
        return (state.highwater or 0) if state is not None else 0


class SteadyConsumer(aiokafka.Consumer):
    """Goes back to the committed offsets with its flow stopped.

    When recovery is complete, Faust 0.15 resumes the partitions of the streams, seeks, and then clears the
    queues of the streams. Its fetcher runs already: what it delivers during the seek is cleared away, though
    the position has moved on, and the next commit passes over it. With the flow stopped nothing is delivered
    until Faust lets it flow again, which it does right after it has cleared the queues.
    """

    def _new_consumer_thread(self) -> aiokafka.AIOKafkaConsumerThread:
        return _SteadyThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek every partition to its committed offset; if there is none, to the beginning."""
        self.stop_flow()
        await super().perform_seek()
        inputs = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        fresh = [aiokafka.ensure_aiokafka_TP(tp) for tp in inputs if self._read_offset[tp] is None]
        if fresh:
            await self._thread.seek_to_beginning(*fresh)


class SteadyTransport(aiokafka.Transport):
    """The transport with that consumer."""

    Consumer = SteadyConsumer
