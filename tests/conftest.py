"""The fixtures that every test may ask for, and the rule that in CI nothing is skipped."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import uuid4

import pytest
from hypothesis import configuration, settings

from streams.embedded import EmbeddedBroker, EmbeddedBrokerMissing
from tests.support import alertmanager as alertmanager_support
from tests.support import prometheus as prometheus_support
from tests.support.alertmanager import Alertmanager
from tests.support.kafka import ApacheKafka, missing_kafka
from tests.support.processes import Child
from tests.support.prometheus import Prometheus

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
BOOTSTRAP_VARIABLE = "FAIRSTREAM_TEST_BOOTSTRAP"
TESTS = Path(__file__).parent

BrokerKind = Literal["apache", "embedded", "external"]
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

configuration.set_hypothesis_home_dir(TESTS.parent / ".build" / "hypothesis")
# A shared machine is slow now and then: no deadline for one example. In CI every run tries the same examples.
settings.register_profile("fairstream", deadline=None, derandomize=IN_CI, print_blob=True)
settings.load_profile("fairstream")


class Broker(NamedTuple):
    """The broker of this test run."""

    kind: BrokerKind
    bootstrap: str


class Spawn:
    """Starts child processes for one test; they are stopped, in reverse order, when it ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.children: list[Child] = []

    def __call__(
        self, command: Sequence[str], *, name: str = "child", env: Mapping[str, str] | None = None
    ) -> Child:
        """Start a child whose log is named after `name`."""
        log = self.directory / f"{name}-{len(self.children)}.log"
        child = Child(command, log, env=env)
        self.children.append(child)
        return child


_broker_used = pytest.StashKey[str]()

# ---------------------------------------------------------------- what pytest is told


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by their folder."""
    for item in items:
        for kind in ("integration", "property"):
            if item.path.is_relative_to(TESTS / kind):
                item.add_marker(kind)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one."""
    return _never_skipped_in_ci((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI a skipped module is a failed one."""
    return _never_skipped_in_ci((yield))


def _never_skipped_in_ci(report: Report) -> Report:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_skip_reason(report)}"
    return report


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a worker which broker it had."""
    if reason := getattr(node, "workeroutput", {}).get("broker"):
        node.config.stash[_broker_used] = reason


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that shows the summary, if this is one of its workers."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["broker"] = session.config.stash.get(_broker_used, "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which broker the tests ran on, and which tests were skipped, and why."""
    if reason := config.stash.get(_broker_used, ""):
        terminalreporter.write_line(f"broker of this run: {reason}")
    for report in terminalreporter.getreports("skipped"):
        terminalreporter.write_line(f"skipped {report.nodeid}: {_skip_reason(report)}", yellow=True)


# ---------------------------------------------------------------- brokers


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield the broker of this test run: a given one, Apache Kafka, or (not in CI) the embedded one."""

    def used(kind: BrokerKind, bootstrap: str, reason: str) -> Broker:
        request.config.stash[_broker_used] = reason
        return Broker(kind, bootstrap)

    given = os.environ.get(BOOTSTRAP_VARIABLE)
    missing = missing_kafka()
    if given:
        yield used("external", given, f"{given}, from {BOOTSTRAP_VARIABLE}")
    elif missing is None:
        with ApacheKafka(tmp_path_factory.mktemp("kafka")) as kafka:
            yield used("apache", kafka.bootstrap, "Apache Kafka")
    elif IN_CI:
        pytest.fail(f"CI needs Apache Kafka, but {missing}")
    else:
        try:
            embedded = EmbeddedBroker()
            embedded.start()
        except EmbeddedBrokerMissing as problem:
            pytest.skip(f"no broker: for Apache Kafka {missing}, and {problem}")
        try:
            yield used("embedded", embedded.bootstrap, f"the embedded one, since for Apache Kafka {missing}")
        finally:
            embedded.stop()


@pytest.fixture(scope="session")
def bootstrap(broker: Broker) -> str:
    """Return the address of this test run's broker."""
    return broker.bootstrap


@pytest.fixture(scope="session")
def broker_kind(broker: Broker) -> BrokerKind:
    """Return what kind of broker this test run has."""
    return broker.kind


@pytest.fixture
def kafka_only(broker: Broker) -> None:
    """Skip the test on the embedded broker."""
    if broker.kind == "embedded":
        pytest.skip(f"needs Apache Kafka, but {missing_kafka()}")


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    """Yield an Apache Kafka of the test's own, which it may stop, kill and restart."""
    if missing := missing_kafka():
        pytest.skip(f"needs an Apache Kafka of its own, but {missing}")
    directory = tmp_path / "kafka"
    directory.mkdir()
    with ApacheKafka(directory) as kafka:
        yield kafka


# ---------------------------------------------------------------- what is around it


@pytest.fixture
def unique() -> str:
    """Return a short suffix for the test's own topics and groups."""
    return uuid4().hex[:8]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Yield a starter of child processes; they are stopped, and their logs shown if the test fails."""
    starter = Spawn(tmp_path)
    yield starter
    for child in reversed(starter.children):
        child.stop()
        print(child.describe())


@pytest.fixture
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Sequence[str]], Prometheus]]:
    """Yield a starter of Prometheus servers that scrape the given "host:port" targets."""
    if missing := prometheus_support.missing(prometheus_support.BINARY, prometheus_support.PROMTOOL):
        pytest.skip(missing)
    started: list[Prometheus] = []

    def start(targets: Sequence[str]) -> Prometheus:
        started.append(Prometheus(targets, tmp_path_factory.mktemp("prometheus")))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Alertmanager]]:
    """Yield a starter of Alertmanager servers that notify nobody."""
    if missing := prometheus_support.missing(alertmanager_support.BINARY):
        pytest.skip(missing)
    started: list[Alertmanager] = []

    def start() -> Alertmanager:
        started.append(Alertmanager(tmp_path_factory.mktemp("alertmanager")))
        return started[-1]

    yield start
    for server in started:
        server.stop()
