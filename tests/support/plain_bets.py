"""The e-detector once more: one series, one side, plain Python, from the formulas alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log10, sqrt

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
DELTAS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)

Stratum = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
"""Events and impressions of the slice, and of the rest, each per bucket."""


def spread(a: Sequence[float], c: Sequence[float]) -> list[float]:
    """Residuals of weighted events from their own rate."""
    level = sum(a) / sum(c)
    return [x - w * level for x, w in zip(a, c, strict=True)]


class PlainSide:
    """One side of one series; ``sign`` 1: too low, -1: too high."""

    def __init__(
        self, sign: int, tolerance: float, per_day: float, timeout_ms: int, buckets: int, least: float
    ) -> None:
        self.least = least
        self.sign, self.tolerance, self.per_day, self.timeout_ms = sign, tolerance, per_day, timeout_ms
        self.buckets = buckets
        self.page = [0.0] * 6
        self.resolve = [0.0] * 6
        self.fired_ms = 0
        self.supers: list[tuple[int, float, float, float, float, float]] = []
        """Of each super-block: end, R, sum of its blocks' R, W, degrees of freedom, R at parity."""
        self.blocks: list[tuple[int, float, float]] = []
        """Of each block: end, events and weight of the rest."""
        self.block = self.nothing()
        self.block_start = self.block_ms = 0
        self.block_count = self.super_count = 0.0
        self.super = self.nothing()
        self.super_start = 0
        self.super_inside = 0.0

    def nothing(self) -> list[list[float]]:
        """Return scores of nothing."""
        return [[0.0] * self.buckets for _ in range(4)]

    def pane(self, scores: Sequence[Sequence[float]], impressions: float, start: int, end: int) -> None:
        """Take a pane's scores: a_A, c_A, a_R, c_R per bucket."""
        for held, new in zip(self.block, scores, strict=True):
            for b in range(self.buckets):
                held[b] += new[b]
        if any(scores[1]):
            self.block_count += impressions
            self.block_ms += end - start
            self.block_start = self.block_start or start
        if self.block_start and (self.block_count >= 150 or end - self.block_start >= HOUR_MS):
            self.close(end)

    def close(self, end: int) -> None:
        """Judge the block by the past, then learn from it."""
        if self.freedom >= 100 and self.rest_rate() > 0:
            self.bet(end)
        _, _, rest, rest_weight = self.block
        self.blocks.append((end, sum(rest), sum(rest_weight)))
        self.super_inside += self.variance(self.block)
        for held, new in zip(self.super, self.block, strict=True):
            for b in range(self.buckets):
                held[b] += new[b]
        self.super_start = self.super_start or self.block_start
        self.super_count += self.block_count
        self.block, self.block_start, self.block_ms, self.block_count = self.nothing(), 0, 0, 0.0
        if end - self.super_start >= HOUR_MS and self.super_count >= self.least:
            u = self.residuals(self.super, 1.0)
            kurtosis = self.buckets * sum(x**4 for x in u) / sum(x**2 for x in u) ** 2
            freedom = 2 * self.buckets / max(kurtosis - 1, 2 * self.buckets / (self.buckets - 1))
            weight, parity = sum(self.super[1]), self.buckets / (self.buckets - 1) * sum(x**2 for x in u)
            self.supers.append((end, self.variance(self.super), self.super_inside, weight, freedom, parity))
            self.super, self.super_start, self.super_count, self.super_inside = self.nothing(), 0, 0.0, 0.0

    def residuals(self, scores: list[list[float]], tolerance: float) -> list[float]:
        """Return U_b."""
        mine, rest = spread(scores[0], scores[1]), spread(scores[2], scores[3])
        return [tolerance * r - m for m, r in zip(mine, rest, strict=True)]

    def variance(self, scores: list[list[float]]) -> float:
        """Return R."""
        return self.buckets / (self.buckets - 1) * sum(u * u for u in self.residuals(scores, self.tolerance))

    def kept(self, end: int, power: int = 1) -> float:
        """Return what time has left of something."""
        return float(0.5 ** ((self.supers[-1][0] - end) / DAY_MS * power))

    @property
    def freedom(self) -> float:
        """Return degrees of freedom of the variance."""
        if not self.supers:
            return 0.0
        total = sum(self.kept(s[0]) * s[5] for s in self.supers)
        return float(total**2) / sum(self.kept(s[0], 2) * s[5] ** 2 / s[4] for s in self.supers)

    def rest_rate(self) -> float:
        """Return the rest's lately known rate."""
        last = self.blocks[-1][0]
        weights = [float(0.5 ** ((last - end) / HOUR_MS)) for end, _, _ in self.blocks]
        events = sum(w * block[1] for w, block in zip(weights, self.blocks, strict=True))
        trials = sum(w * block[2] for w, block in zip(weights, self.blocks, strict=True))
        return float(events / trials)

    def bet(self, end: int) -> None:
        """Bet on the block."""
        total = [sum(self.kept(s[0]) * s[i] for s in self.supers) for i in (1, 2, 3)]
        q = total[0] / total[2] * (1 + sqrt(2 / self.freedom))
        kappa = max(total[0] / total[1], 1.0)
        weight, m, t = sum(self.block[1]), self.rest_rate(), self.tolerance
        a, c, rest, rest_weight = self.block
        u = [
            self.sign * (t * (rest[b] - m * rest_weight[b]) - (a[b] - t * m * c[b]))
            for b in range(self.buckets)
        ]
        variance = weight * q
        penalty = (3 * variance + sum(x * x for x in u) - variance / kappa) / 6
        days = self.block_ms / DAY_MS
        bets = [delta * t * m / q for delta in DELTAS]
        for j, bet in enumerate(bets):
            won = exp(min(bet * sum(u) - bet**2 * penalty, 3.0))
            back = exp(min(-bet * sum(u) - bet**2 * penalty, 3.0))
            self.page[j] = (self.page[j] + self.per_day * days / 6) * won
            self.resolve[j] = (self.resolve[j] + 0.1 * days / 6) * back if self.fired_ms else 0.0
        if sum(self.page) >= 1:
            self.fired_ms, self.page, self.resolve = end, [0.0] * 6, [0.0] * 6
        elif self.fired_ms and (sum(self.resolve) >= 1 or end - self.fired_ms >= self.timeout_ms):
            self.fired_ms, self.page, self.resolve = 0, [0.0] * 6, [0.0] * 6

    @property
    def evidence(self) -> float:
        """Powers of ten: below 0 quiet, above 0 firing."""
        held = sum(self.resolve if self.fired_ms else self.page)
        return (-1 if self.fired_ms else 1) * (log10(held) if held > 0 else -inf)


def plain_rate_scores(strata: Sequence[Stratum]) -> list[list[float]]:
    """a_A, c_A, a_R, c_R of a pane, summed over strata."""
    buckets = len(strata[0][0])
    found = [[0.0] * buckets for _ in range(4)]
    for events, trials, rest_events, rest_trials in strata:
        n, m = sum(trials), sum(rest_trials)
        if n and m:
            weight = n * m / (n + m)
            for b in range(buckets):
                found[0][b] += weight * events[b] / n
                found[1][b] += weight * trials[b] / n
                found[2][b] += weight * rest_events[b] / m
                found[3][b] += weight * rest_trials[b] / m
    return found
