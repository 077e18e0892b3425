"""Fairness metrics by the names of the literature, as pure functions of sums.

Amounts have slices on their last axis; any axes before it (viewer buckets left out, windows) are
carried along, so that :func:`monitor.metrics.jackknife.replicate` works for every function. NaN is
"undefined here", never a number: no smoothing constant makes a value up.
"""
