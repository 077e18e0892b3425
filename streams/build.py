"""Which fairstream and which configuration this is, as metrics."""

from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Info, disable_created_metrics

from monitor.config import Config, config_sha256


def fairstream_version() -> str:
    """The installed version, or ``unknown`` in a bare checkout."""
    try:
        return version("fairstream")
    except PackageNotFoundError:
        return "unknown"


def register_info(registry: CollectorRegistry, config: Config) -> None:
    """``fairstream_build_info`` and ``fairstream_config_info``."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    Info("fairstream_build", "Version of fairstream.", registry=registry).info(
        {"version": fairstream_version()}
    )
    config_info = Info("fairstream_config", "Hash of the configuration in use.", registry=registry)
    config_info.info({"sha256": config_sha256(config)})
