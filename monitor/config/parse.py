"""From YAML text to a checked :class:`Config`; hashes of what it says and what it means."""

import hashlib
from typing import Any

import msgspec

from monitor.config.crosscheck import cross_check, known_attributes
from monitor.config.document import ConfigError, Problem, encode_custom, parse_document
from monitor.config.model import Config

__all__ = ["ConfigError", "Problem", "config_sha256", "meaning_sha256", "parse_config"]


def parse_config(text: str, file: str = "") -> Config:
    r"""Parse and check a configuration.

    Raises:
        ConfigError: with every problem found, each with line, field, value and what is allowed.

    >>> parse_config("surfaces: [home]\nwindows: [{length: 5m, slide: 10s}]").windows[0].name
    '5m'
    """
    return parse_document(text, Config, cross_check, file)


def _sha256(data: Any) -> str:
    text = msgspec.json.encode(msgspec.to_builtins(data, enc_hook=encode_custom), order="sorted")
    return hashlib.sha256(text).hexdigest()


def config_sha256(config: Config) -> str:
    """Hash of the whole configuration (label ``sha256`` of ``fairstream_config_info``)."""
    return _sha256(config)


def meaning_sha256(config: Config) -> str:
    """Hash of what gives the sums in a snapshot their meaning; 16 hex digits.

    Snapshots under different hashes are never merged. The order of attributes is part of it: it is
    that of the values in a cell.
    """
    return _sha256(
        [
            known_attributes(config),
            config.surfaces,
            config.attributes,
            config.time.pane,
            config.exposure,
            config.engagement,
            config.limits.buckets,
            config.limits.max_cells,
            *config.rankings,  # without them the hash is what it was before there were any; so the next
            *([config.limits.viewer_cap] if config.limits.viewer_cap else []),
            *(["candidates"] if config.candidates else []),
        ]
    )[:16]
