"""The command line: commands, options, exit codes."""

import argparse
import json
import logging
import socket
import sys
from collections.abc import Sequence
from datetime import datetime
from math import inf
from pathlib import Path

from confluent_kafka import KafkaException
from rich.console import Console

from monitor.config import Config, ConfigError, config_schema, parse_config, parse_duration
from streams.build import fairstream_version
from streams.clients import SecretFileError
from streams.exits import EX_CONFIG, EX_UNAVAILABLE
from streams.logs import set_up_logging

ROLES = ("aggregate", "monitor", "notify")


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: with file, line, field, what was wrong and what would be right.
    """
    return parse_config(path.read_text(encoding="utf-8"), str(path))


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(
        prog="fairstream", description="A streaming fairness monitor for feeds, search and recommendations."
    )
    parser.add_argument("--version", action="version", version=f"fairstream {fairstream_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="replay a real impression log through the whole pipeline")
    demo.add_argument("--summary", type=Path, help="write a JSON summary to this file")
    demo.add_argument("--seconds", type=float, default=60.0, help="how long the replay takes (default: 60)")
    demo.add_argument("--screenshot", type=Path, help="write the last view to this SVG file")

    run = _with_config(commands.add_parser("run", help="all three roles on one machine"))
    run.add_argument("--summary", type=Path, help="write a JSON summary to this file at the end")
    run.add_argument("--until-end", action="store_true", help="stop when everything in the topics is judged")

    for role in ROLES:
        one = _with_config(commands.add_parser(role, help=f"the {role} role alone"))
        one.add_argument("--summary", type=Path, help="write a JSON summary to this file at the end")
        one.add_argument(
            "--instance",
            default=f"{role}-{socket.gethostname()}",
            help="static group membership: unique among running processes, the same after a restart",
        )

    check = _with_config(
        commands.add_parser("check", help="say what a configuration would watch"), required=False
    )
    check.add_argument("--schema", action="store_true", help="print the configuration's JSON Schema instead")
    check.add_argument(
        "--traffic", type=_positive, help="impressions a minute on each surface: say what is seen how fast"
    )
    check.add_argument(
        "--rate", type=_positive, default=0.05, help="engagements per impression (default: 0.05)"
    )
    check.add_argument(
        "--design-effect", type=_positive, default=3.0, help="of viewers on the variance (default: 3)"
    )

    simulate = _with_config(
        commands.add_parser("simulate", help="write simulated traffic with planted disparities")
    )
    simulate.add_argument("--scenario", type=Path, help="scenario file (default: the one that ships)")
    simulate.add_argument("--rate", type=float, default=200.0, help="impressions per second of event time")
    simulate.add_argument(
        "--duration", type=_duration, default=parse_duration("1h"), help="event time (default: 1h)"
    )
    simulate.add_argument("--impressions", type=int, help="exactly this many impressions, instead of a rate")
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument("--start", type=_moment, help="first event time, ISO 8601 with zone")
    simulate.add_argument("--live", action="store_true", help="at the speed of the clock")
    simulate.add_argument("--speed", type=float, help="this many times the speed of the clock")
    simulate.add_argument("--summary", type=Path, help="write a JSON account to this file")

    verify = _with_config(
        commands.add_parser("verify", help="recount the log, and compare with what fairstream holds")
    )
    verify.add_argument("--from", dest="start", type=_moment, help="first event time, ISO 8601 with zone")
    verify.add_argument("--to", dest="end", type=_moment, help="event time to end before")
    verify.add_argument(
        "--monitor",
        action="append",
        metavar="URL",
        help="each monitor; default: the one in the configuration",
    )
    verify.add_argument("--panes-only", action="store_true", help="do not ask monitor for its windows")
    verify.add_argument("--timeout", type=_duration, default=parse_duration("60s"), help="default: 60s")
    verify.add_argument("--json", type=Path, help="write all figures to this file")

    topics = _with_config(commands.add_parser("topics", help="create the topics that are missing"))
    topics.add_argument("--timeout", type=_duration, default=parse_duration("30s"), help="default: 30s")
    return parser


def _with_config(parser: argparse.ArgumentParser, required: bool = True) -> argparse.ArgumentParser:
    parser.add_argument("--config", type=Path, required=required, help="the configuration, a YAML file")
    return parser


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError("not a number above 0")
    return number


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("a time needs a zone, such as 2026-01-01T00:00:00Z")
    return int(moment.timestamp() * 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 good, 2 usage, 69 no broker, 78 bad configuration."""
    options = build_parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except (ConfigError, SecretFileError) as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return EX_CONFIG
    except KafkaException as error:
        print(f"kafka: {error.args[0].str()}", file=sys.stderr)
        return EX_UNAVAILABLE


def _dispatch(options: argparse.Namespace) -> int:
    match options.command:
        case "demo":
            from streams.demo import run_demo  # noqa: PLC0415 - a command loads only what it needs

            return run_demo(summary=options.summary, seconds=options.seconds, screenshot=options.screenshot)
        case "check" | "topics" | "simulate" | "verify":
            return _WITHOUT_LOGS[options.command](options)
        case "run":
            from streams.run import run_all  # noqa: PLC0415

            set_up_logging("run")
            config = load_config(options.config)
            return run_all(config, options.config, summary=options.summary, until_end=options.until_end)
        case _:
            return _role(options)


def _role(options: argparse.Namespace) -> int:
    set_up_logging(options.command)
    config = load_config(options.config)
    logging.getLogger(__name__).info("fairstream %s %s starts", fairstream_version(), options.command)
    if options.command == "aggregate":
        from streams.aggregate import run_aggregate  # noqa: PLC0415

        return run_aggregate(config, instance=options.instance, summary=options.summary)
    if options.command == "monitor":
        from streams.monitor import run_monitor  # noqa: PLC0415

        return run_monitor(config, instance=options.instance, summary=options.summary)
    from streams.notify import run_notify  # noqa: PLC0415

    return run_notify(config, instance=options.instance, summary=options.summary)


def _check(options: argparse.Namespace) -> int:
    from monitor.planning import Traffic  # noqa: PLC0415
    from streams.checks import print_check, print_outlook  # noqa: PLC0415

    if options.schema:
        print(json.dumps(config_schema(), indent=2))
        return 0
    if options.config is None:
        print("fairstream check: --config FILE is needed (or --schema)", file=sys.stderr)
        return 2
    config, console = load_config(options.config), Console()
    print_check(config, str(options.config), console)
    if options.traffic is not None:
        print_outlook(config, Traffic(options.traffic, options.rate, options.design_effect), console)
    return 0


def _topics(options: argparse.Namespace) -> int:
    from streams.topics import create_topics  # noqa: PLC0415

    config = load_config(options.config)
    for name, outcome in sorted(create_topics(config, options.timeout / 1000).items()):
        print(f"{name}: {outcome}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from streams.supervisor import role_specs  # noqa: PLC0415
    from streams.verify import run_verify  # noqa: PLC0415

    config = load_config(options.config)
    here = [spec.url for spec in role_specs(config) if spec.role == "monitor"]
    return run_verify(
        config,
        between=(options.start or 0, options.end or sys.maxsize),
        monitors=options.monitor or here,
        panes_only=options.panes_only,
        timeout_s=options.timeout / 1000,
        json_file=options.json,
    )


def _simulate(options: argparse.Namespace) -> int:
    from streams.simulate import load_scenario, run_simulate  # noqa: PLC0415

    config = load_config(options.config)
    scenario = load_scenario(options.scenario)
    return run_simulate(
        config,
        scenario=scenario,
        rate=options.rate,
        duration_ms=options.duration,
        seed=options.seed,
        start_ms=options.start,
        impressions=options.impressions,
        speed=1.0 if options.live else options.speed,
        summary=options.summary,
    )


_WITHOUT_LOGS = {"check": _check, "topics": _topics, "simulate": _simulate, "verify": _verify}
"""Commands that speak to a person and end by themselves."""
