"""Which slices are too small to be shown: by impressions, by viewers, and by what the others give away.

Detectors run on all sums; this is about what leaves the process. Viewers are counted by their buckets:
the number of non-empty ones is at most the number of distinct viewers. So a floor of k holds, errs on
the side of hiding, needs no sketch, and merges like any sum; a floor above the number of buckets asks
that all of them be filled.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.config import Limits

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SUPPRESSED = "suppressed: too few viewers"
"""The reason that verdicts of hidden slices give."""


def hidden_slices(impressions: Ints, limits: Limits, candidates: Ints | None = None) -> Flags:
    """(S,) which slices of a dimension are not shown, from their impressions (S, B) in a window.

    Where their candidates (S, B) are counted too, they must pass by both.

    A slice is hidden when it has impressions, but fewer than ``suppress_below``, or of fewer viewers than
    ``min_viewers``. A total minus the shown slices gives the hidden ones away, so the next smallest are
    hidden too, until at least two are, and together they pass both floors (complementary suppression;
    Cox 1980). An empty slice is never hidden: nothing of nobody gives nobody away.

    >>> few = np.array([[9, 9, 9, 9], [40, 40, 40, 40], [1, 0, 0, 0], [0, 0, 0, 0]])
    >>> hidden_slices(few, Limits(buckets=4, suppress_below=20, min_viewers=2)).tolist()
    [True, False, True, False]
    """
    if candidates is not None:
        return hidden_slices(impressions, limits) | hidden_slices(candidates, limits)
    counts = impressions.sum(axis=1)
    hidden = (counts > 0) & ~_passes(impressions, limits)
    if not hidden.any():
        return np.asarray(hidden)
    for count in np.unique(counts[counts > 0]):  # equal ones together: the order of slices decides nothing
        together = impressions[hidden].sum(axis=0, keepdims=True)
        if hidden.sum() > 1 and _passes(together, limits)[0]:
            break
        hidden |= (counts > 0) & (counts <= count)
    return np.asarray(hidden)


def _passes(impressions: Ints, limits: Limits) -> Flags:
    """(S,) whether impressions (S, B) reach both floors."""
    viewers = np.minimum(limits.min_viewers, impressions.shape[1])
    enough = impressions.sum(axis=1) >= limits.suppress_below
    return np.asarray(enough & ((impressions > 0).sum(axis=1) >= viewers))
