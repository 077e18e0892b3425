"""Slices inside of strata: a dimension with further attributes, such as ``item.tone*viewer.device``."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def by_stratum(slices: list[str], names: list[str], sums: Ints, parts: int) -> Ints:
    """Sums (N, B, M) of slices of the larger dimension as (S, K, B, M): slices by strata.

    Args:
        slices: of the rule's dimension; what belongs to no other is left out.
        names: of the N slices of the larger dimension, the strata's ``parts`` values last.
        sums: theirs.
        parts: how many attributes make a stratum.

    >>> sums = np.array([[[5]], [[7]], [[9]]])
    >>> by_stratum(["a", "b"], ["a*tv", "b*tv", "b*web"], sums, 1).tolist()
    [[[[5]], [[0]]], [[[7]], [[9]]]]
    """
    split = [name.rsplit("*", parts) for name in names]
    strata = list(dict.fromkeys(tuple(each[1:]) for each in split))
    rows = {slice_: row for row, slice_ in enumerate(slices)}
    found = np.zeros((len(slices), max(len(strata), 1), *sums.shape[1:]), dtype=np.int64)
    for each, amounts in zip(split, sums, strict=True):
        if each[0] in rows:
            found[rows[each[0]], strata.index(tuple(each[1:]))] += amounts
    return found
