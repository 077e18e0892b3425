"""The topics that fairstream reads and writes, and their creation (``fairstream topics``)."""

from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from monitor.config import Config
from streams.clients import MAX_RECORD_BYTES, common_settings

_MINUTE_MS = 60_000
_DAY_MS = 86_400_000


class TopicSpec(NamedTuple):
    """A topic as it should be."""

    name: str
    partitions: int
    settings: dict[str, str]


def changelog_topic(config: Config, role: str, table: str) -> str:
    """Name of the topic that backs a Faust table."""
    return f"{config.kafka.group_prefix}-{role}-{table}-changelog"


def topic_specs(config: Config) -> list[TopicSpec]:
    """All topics of a configuration.

    Source topics take their record time from the broker (``LogAppendTime``): the check for
    timestamps in the future needs a clock that no client can set. ``fairness.panes`` is kept
    by time, not compacted: its key is the surface.
    """
    kafka, topics = config.kafka, config.kafka.topics
    source = {"message.timestamp.type": "LogAppendTime"}
    kept_a_week = {"retention.ms": str(7 * _DAY_MS)}
    kept_a_year = {"retention.ms": str(365 * _DAY_MS)}
    compacted = {
        "cleanup.policy": "compact",
        # what recovery has to read: little more than what is held
        "segment.bytes": str(64 * 1024 * 1024),
        "min.cleanable.dirty.ratio": "0.1",
        # long enough for an owner to write again what a stale one may have overwritten (streams/terms.py)
        "min.compaction.lag.ms": str(20 * _MINUTE_MS),
    }
    inner = kafka.internal_partitions
    return [
        TopicSpec(topics.impressions, kafka.partitions, source),
        TopicSpec(topics.engagements, kafka.partitions, source),
        TopicSpec(topics.panes, inner, {"retention.ms": str(2 * _DAY_MS)}),
        TopicSpec(topics.verdicts, inner, kept_a_week),
        TopicSpec(topics.alerts, inner, kept_a_year),
        TopicSpec(
            topics.dead_letter,
            inner,
            kept_a_week | {"max.message.bytes": str(MAX_RECORD_BYTES + 1024 * 1024)},
        ),
        TopicSpec(changelog_topic(config, "monitor", "state"), inner, compacted),
        TopicSpec(changelog_topic(config, "notify", "alerts"), inner, compacted),
    ]


def create_topics(config: Config, timeout_s: float = 30.0) -> dict[str, str]:
    """Create what is missing; what became of each topic: ``created`` or ``exists``.

    Raises:
        KafkaException: the cluster cannot be reached or refuses.
    """
    admin = AdminClient(common_settings(config.kafka))
    present = set(admin.list_topics(timeout=timeout_s).topics)
    outcome: dict[str, str] = {}
    missing = []
    for spec in topic_specs(config):
        if spec.name in present:
            outcome[spec.name] = "exists"
        else:
            missing.append(
                NewTopic(spec.name, spec.partitions, config.kafka.replication, config=spec.settings)
            )
    for name, future in (admin.create_topics(missing, request_timeout=timeout_s) if missing else {}).items():
        try:
            future.result(timeout_s)
            outcome[name] = "created"
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            outcome[name] = "exists"
    return outcome
