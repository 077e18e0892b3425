"""Laws of the terms under which changelog records are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.terms import Term, Terms


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: Term(*pair))))
def test_what_counts_never_goes_back(written: list[Term]) -> None:
    """The terms of the records that count only grow, and each counts that is not older than all before."""
    terms = Terms(0)
    admitted = [term for term in written if terms.admits(0, term)]
    assert admitted == sorted(admitted)
    assert admitted == [term for i, term in enumerate(written) if term >= max(written[:i], default=term)]
