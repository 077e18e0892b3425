"""How often: engagement rates, and what separates them. fairlearn's names where it has one."""

import numpy as np

from monitor.metrics.shares import Floats, divide, others


def rate(events: Floats, trials: Floats) -> Floats:
    """Events per trial: fairlearn's ``selection_rate`` by group. NaN without trials.

    >>> rate(np.array([5.0, 1.0, 0.0]), np.array([50.0, 20.0, 0.0]))
    array([0.1 , 0.05,  nan])
    """
    return divide(events, trials)


def rate_ratio(events: Floats, trials: Floats) -> Floats:
    """Rate of a slice over that of all other slices together; 1 is parity.

    >>> rate_ratio(np.array([5.0, 1.0]), np.array([50.0, 20.0]))
    array([2. , 0.5])
    """
    return divide(rate(events, trials), rate(others(events), others(trials)))


def rate_difference(events: Floats, trials: Floats) -> Floats:
    """Rate of a slice minus that of all other slices together; 0 is parity.

    >>> rate_difference(np.array([5.0, 1.0]), np.array([50.0, 20.0]))
    array([ 0.05, -0.05])
    """
    return np.asarray(rate(events, trials) - rate(others(events), others(trials)))


def demographic_parity_difference(events: Floats, trials: Floats) -> Floats:
    """Largest rate minus smallest. For description only: its intervals do not hold (see :mod:`jackknife`).

    Slices without trials do not take part; NaN if none has any.

    >>> float(demographic_parity_difference(np.array([5.0, 1.0]), np.array([50.0, 20.0])))
    0.05
    """
    return np.asarray(_extreme(events, trials, -np.inf) - _extreme(events, trials, np.inf))


def demographic_parity_ratio(events: Floats, trials: Floats) -> Floats:
    """Smallest rate over largest; NaN if no slice has any event. For description only.

    >>> float(demographic_parity_ratio(np.array([5.0, 1.0]), np.array([50.0, 20.0])))
    0.5
    """
    return divide(_extreme(events, trials, np.inf), _extreme(events, trials, -np.inf))


def _extreme(events: Floats, trials: Floats, empty: float) -> Floats:
    """The smallest rate (``empty`` is inf) or the largest (-inf); NaN where no slice has trials."""
    rates = np.where(trials > 0, rate(events, trials), empty)
    found = rates.min(axis=-1) if empty > 0 else rates.max(axis=-1)
    return np.asarray(np.where(np.isfinite(found), found, np.nan))
