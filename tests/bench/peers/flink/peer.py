"""Flink SQL: a HOP window over the items of each request; one slot, state on the heap, results dropped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from account import Account, options
from pyflink.table import EnvironmentSettings, TableEnvironment

WARM_UP_RECORDS = 20_000

given = options()
jars = ";".join(jar.as_uri() for jar in Path(os.environ["FLINK_JARS"]).glob("*.jar"))
tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
for name, value in {
    "pipeline.jars": jars,
    "parallelism.default": "1",
    "pipeline.object-reuse": "true",
    "taskmanager.numberOfTaskSlots": "1",
}.items():
    tables.get_config().set(name, value)


def source(name: str, until: str) -> str:
    """The topic as a table, up to a bound."""
    return f"""
        CREATE TABLE {name} (
          ts BIGINT,
          surface STRING,
          viewer ROW<gender STRING, age STRING>,
          items ARRAY<ROW<id STRING, `position` INT, attrs ROW<skin_tone STRING, hair_pattern STRING>>>,
          shown_at AS TO_TIMESTAMP_LTZ(ts, 3),
          WATERMARK FOR shown_at AS shown_at - INTERVAL '10' SECOND
        ) WITH (
          'connector' = 'kafka', 'format' = 'json', 'topic' = '{given.topic}',
          'properties.bootstrap.servers' = '{given.bootstrap}', 'properties.group.id' = 'peer-flink',
          'scan.startup.mode' = 'earliest-offset', {until})
    """


def sums(name: str) -> str:
    """Impressions and exposure of each cell over five minutes, every ten seconds."""
    return f"""
        INSERT INTO sums
        SELECT window_start, surface, gender, age, skin_tone, hair_pattern, COUNT(*),
               SUM(1 / LOG2(1 + `position`))
        FROM TABLE(HOP(TABLE {name}_shown, DESCRIPTOR(shown_at), INTERVAL '10' SECOND, INTERVAL '5' MINUTE))
        GROUP BY window_start, window_end, surface, gender, age, skin_tone, hair_pattern
    """


def shown(name: str) -> str:
    """A row for each item."""
    return f"""
        CREATE VIEW {name}_shown AS
        SELECT shown_at, surface, viewer.gender AS gender, viewer.age AS age,
               attrs.skin_tone AS skin_tone, attrs.hair_pattern AS hair_pattern, `position`
        FROM {name} CROSS JOIN UNNEST(items) AS item (id, `position`, attrs)
    """


tables.execute_sql("""
    CREATE TABLE sums (
      window_start TIMESTAMP(3), surface STRING, gender STRING, age STRING, skin_tone STRING,
      hair_pattern STRING, impressions BIGINT, exposure DOUBLE
    ) WITH ('connector' = 'blackhole')
""")
bound = f"'scan.bounded.specific-offsets' = 'partition:0,offset:{WARM_UP_RECORDS}'"
few = f"'scan.bounded.mode' = 'specific-offsets', {bound}"
for name, until in (("warm_up", few), ("impressions", "'scan.bounded.mode' = 'latest-offset'")):
    tables.execute_sql(source(name, until))
    tables.execute_sql(shown(name))

children = subprocess.run(
    ["pgrep", "-P", str(os.getpid()), "java"], capture_output=True, text=True, check=True
)
java = int(children.stdout.split()[0])
tables.execute_sql(sums("warm_up")).wait()  # starting Java's classes is left out, as of all others
account = Account(java)
tables.execute_sql(sums("impressions")).wait()
account.tell()
