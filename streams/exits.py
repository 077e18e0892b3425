"""Exit codes that say more than success or failure (those of sysexits.h), and how a process ends itself."""

import logging
import os

EX_UNAVAILABLE = 69
"""No broker answers, or nobody else who was asked."""
EX_SOFTWARE = 70
"""An error that must not be acknowledged away, or a process that another one has replaced: start it again."""
EX_CONFIG = 78
"""The configuration is wrong: starting again would not help."""

log = logging.getLogger(__name__)


def stop_before_acknowledging(error: BaseException) -> None:
    """End the process at once: Faust acknowledges an event whose handler raised, so it must not get there."""
    log.critical("stopping: an event could not be handled", exc_info=error)
    _stop_now()


def stop_before_writing(pause_s: float) -> None:
    """End a process that was paused, at once: another one may write for its partitions now."""
    log.critical("stopping: did not run for %.1f s, so its partitions may have another owner", pause_s)
    _stop_now()


def stop_outside_of_group(reason: str) -> None:
    """End a process that would otherwise go on without partitions, or take those of its successor."""
    log.critical("stopping: no longer a member of the group: %s", reason)
    _stop_now()


def _stop_now() -> None:
    logging.shutdown()
    os._exit(EX_SOFTWARE)
