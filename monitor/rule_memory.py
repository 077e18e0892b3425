"""What a rule remembers of a surface between two starts, and what makes another's memory strange to it."""

from typing import Any

import msgspec
from msgspec import Struct

from monitor.config import Config, DetectorSpec, Rule, meaning_sha256
from monitor.config.document import encode_custom
from monitor.references import declared_slices
from monitor.verdicts import UnknownVersionError

VERSION = 1


class RuleMemory(Struct):
    """A rule's memory for one surface: the last pane it judged, and what it learnt by then, in one value."""

    version: int
    rule: str
    """Identity of what the rule measures; another one starts anew."""
    last_end_ms: int
    reference: bytes
    detectors: dict[str, bytes]
    slices: list[str] = []
    """Every slice judged so far: those that vanish from the data are still answered for."""
    baseline: str = ""
    """Identity of what the baseline measures; while it is the same, what was learnt stays."""


def encode_memory(memory: RuleMemory) -> bytes:
    """The memory as bytes."""
    return msgspec.msgpack.encode(memory)


def decode_memory(data: bytes) -> RuleMemory:
    """Inverse of :func:`encode_memory`.

    Raises:
        UnknownVersionError: it was written by a newer program.
    """
    memory = msgspec.msgpack.decode(data, type=RuleMemory)
    if memory.version > VERSION:
        raise UnknownVersionError(f"rule state version {memory.version}, this program knows up to {VERSION}")
    return memory


def rule_identity(config: Config, rule: Rule) -> str:
    """What the rule measures and by which detectors.

    The false-alarm budget is no part of it: what other rules leave a rule of it changes when they do, and
    must not make it forget.
    """
    parts = [rule.metric, rule.dimension, rule.window, rule.compare, rule.action, _reference(rule)]
    measured = [meaning_sha256(config), *parts, [_parameters(spec) for spec in rule.detectors]]
    return msgspec.json.encode(measured, enc_hook=encode_custom).decode()


def _reference(rule: Rule) -> Any:
    """The reference; if it does not move, without what makes it: so it is what it was before any did."""
    reference: Any = msgspec.to_builtins(rule.reference, enc_hook=encode_custom)
    if rule.reference is not None and not rule.reference.candidates:
        del reference["candidates"]
    baseline = rule.reference.baseline if rule.reference is not None else None
    if baseline is not None and not baseline.moves:
        for name in ("sliding", "lag", "every", "periods", "bin"):
            del reference["baseline"][name]
    return reference


def _parameters(spec: DetectorSpec) -> dict[str, Any]:
    """What differs from the defaults: so a parameter that a later version adds makes no rule forget."""
    plain = DetectorSpec(kind=spec.kind)
    given = {name: getattr(spec, name) for name in spec.__struct_fields__}
    return {"kind": spec.kind} | {n: value for n, value in given.items() if value != getattr(plain, n)}


def baseline_identity(config: Config, rule: Rule, measure: int, *, weighted: bool) -> str:
    """What gives learnt shares their meaning, and the word that asks for others; empty without a baseline.

    Nothing else may be part of it: a baseline is not learnt anew because a rule got another detector,
    or the configuration another surface. ``weighted``: whether the measure goes by the weights of positions.
    """
    reference = rule.reference
    if reference is None or reference.baseline is None:
        return ""
    declared = [declared_slices(config.attributes, part) for part in rule.dimension.split("*")]
    weights = config.exposure if weighted else None
    learns = [measure, rule.dimension, declared, config.limits.buckets, weights]
    bins = [reference.baseline.bin] if reference.baseline.moves else []
    return msgspec.json.encode([learns, reference.baseline.relearn, *bins], enc_hook=encode_custom).decode()
