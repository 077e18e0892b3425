"""The configuration's JSON Schema, for editors (``fairstream check --schema``)."""

from typing import Any

import msgspec

from monitor.config.durations import DURATION_PATTERN, Duration
from monitor.config.model import Config


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the configuration file."""
    schema = msgspec.json.schema(Config, schema_hook=_custom)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "fairstream configuration"
    return schema


def _custom(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {"type": "string", "pattern": DURATION_PATTERN, "examples": ["10s", "5m", "24h"]}
    raise TypeError(f"no schema for {kind!r}")
