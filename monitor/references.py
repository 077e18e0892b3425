"""References: what a slice's share should be, fixed or learnt, with its own uncertainty."""

from collections.abc import Callable

import numpy as np

from monitor.baselines import Baseline, Floats, Ints, MovingBaseline, ReferenceShares
from monitor.config import Attributes, Config, Rule
from monitor.requests import candidates_measure
from monitor.rules import window_of


class Fixed:
    """Shares given by the configuration: targets, or equal ones."""

    waiting = ""

    def __init__(self, names: list[str], share_of: Callable[[str, int], float], buckets: int) -> None:
        """``share_of(slice, number of slices)`` is the share; ``names`` are always slices."""
        self._names = names
        self._share_of = share_of
        self._buckets = buckets
        self._latest: tuple[list[str], ReferenceShares] | None = None

    def observe(self, slices: list[str], sums: Ints, start_ms: int, end_ms: int) -> None:
        """Nothing to learn."""

    def names(self) -> list[str]:
        """Slices that the reference names."""
        return self._names

    def of(self, slices: list[str], sums: Ints) -> ReferenceShares | None:
        """The shares of the slices in a window with these sums (S, B, M), whatever they are."""
        return self.of_pane(slices, sums, 0)

    def of_pane(self, slices: list[str], sums: Ints, pane_ms: int) -> ReferenceShares:  # noqa: ARG002
        """The same in a pane."""
        if self._latest is None or self._latest[0] != slices:
            shares = np.array([self._share_of(slice_, len(slices)) for slice_ in slices], dtype=np.float64)
            part = np.repeat(shares[:, None] / self._buckets, self._buckets, axis=1)
            whole = np.full(self._buckets, 1 / self._buckets)
            self._latest = list(slices), ReferenceShares(part, whole)
        return self._latest[1]

    def dump(self) -> bytes:
        """No state."""
        return b""

    def restore(self, data: bytes) -> None:
        """No state."""


def declared_slices(attributes: Attributes, dimension: str) -> list[str]:
    """Slices of a dimension whose attribute declares its values; empty if it does not, or is several."""
    if dimension == "variant":
        attribute = attributes.variant
    else:
        group, _, name = dimension.partition(".")
        attribute = getattr(attributes, group, {}).get(name)
    return list(attribute.values) if attribute is not None and attribute.values else []


class Candidates:
    """Shares of what the requests of the same time could have shown."""

    waiting = "no candidates"

    def __init__(self, measure: int) -> None:
        """``measure``: the place of candidates in the sums."""
        self._measure = measure

    def observe(self, slices: list[str], sums: Ints, start_ms: int, end_ms: int) -> None:
        """Nothing to learn."""

    def names(self) -> list[str]:
        """None beyond those that the sums have."""
        return []

    def of(self, slices: list[str], sums: Ints) -> ReferenceShares | None:  # noqa: ARG002 - those of the sums
        """The slices' shares of the candidates in a window; None if it has none."""
        part: Floats = sums[:, :, self._measure].astype(np.float64)
        return ReferenceShares(part, part.sum(axis=0)) if part.any() else None

    def of_pane(self, slices: list[str], sums: Ints, pane_ms: int) -> ReferenceShares:  # noqa: ARG002
        """Those in a pane; 0 of 0 without any."""
        nothing = np.zeros(sums.shape[:2])
        return self.of(slices, sums) or ReferenceShares(nothing, nothing[0])

    def dump(self) -> bytes:
        """No state."""
        return b""

    def restore(self, data: bytes) -> None:
        """No state."""


Reference = Baseline | MovingBaseline | Fixed | Candidates


def make_reference(config: Config, rule: Rule) -> Reference | None:
    """What a rule holds shares against; None if it compares with the rest."""
    reference, buckets = rule.reference, config.limits.buckets
    if reference is None:
        return None
    if reference.candidates:
        return Candidates(candidates_measure(config))
    if reference.baseline is not None:
        if reference.baseline.moves:
            return MovingBaseline(reference.baseline, window_of(config, rule).length, buckets)
        return Baseline(reference.baseline, buckets)
    return _fixed(config, rule, reference.targets)


def _fixed(config: Config, rule: Rule, targets: dict[str, float] | None) -> Fixed:
    buckets = config.limits.buckets
    if targets is not None:
        return Fixed(list(targets), lambda slice_, _: targets.get(slice_, 0.0), buckets)
    declared = declared_slices(config.attributes, rule.dimension)
    if declared:
        equal = 1 / len(declared)
        return Fixed(declared, lambda slice_, _: equal if slice_ in declared else 0.0, buckets)
    return Fixed([], lambda _, count: 1 / count, buckets)
