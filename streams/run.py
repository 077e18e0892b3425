"""``fairstream run``: all three roles on one machine, until told to stop or until the input is done."""

import sys
import time
from pathlib import Path

from monitor.config import Config
from streams.exits import EX_CONFIG
from streams.summary import write_summary
from streams.supervisor import (
    POLL_S,
    ConfigurationRefusedError,
    Supervisor,
    finished,
    merge_summary,
    role_specs,
    stop_on_signals,
)
from streams.topics import create_topics


def run_all(config: Config, config_file: Path, *, summary: Path | None, until_end: bool) -> int:
    """Supervise the roles; the exit code. ``until_end`` stops when everything in the topics is judged."""
    if until_end and not all(spec.port for spec in role_specs(config)):
        print("fairstream run: --until-end needs a port for each role in http", file=sys.stderr)
        return EX_CONFIG
    stopping = stop_on_signals()
    create_topics(config)
    began_s = time.monotonic()
    with Supervisor(config, config_file) as supervisor:
        try:
            while not stopping.wait(POLL_S):
                supervisor.tend()
                if until_end and finished(supervisor.statuses()):
                    break
        except ConfigurationRefusedError:
            return EX_CONFIG
        seconds = time.monotonic() - began_s
        supervisor.stop()
        write_summary(summary, merge_summary(supervisor.summary(), seconds))
    return 0
