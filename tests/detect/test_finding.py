from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.detect.finding import MAX_SUMMARY, MAX_WHERE, listed, make
from steadygrad.errors import UsageError


@given(st.lists(st.text(min_size=1, max_size=200), max_size=30))
def test_a_list_of_names_is_short_and_counts_the_rest(names):
    text = listed(names)
    assert len(text) <= 110
    if len(names) > 3:
        assert text.endswith(" more")


def test_summary_and_names_are_bounded():
    finding = make("exploding_gradient", "info", 0, "x" * 999, where=["w"] * 999)
    assert len(finding.summary) == MAX_SUMMARY
    assert len(finding.where) == MAX_WHERE


def test_a_finding_can_not_be_changed():
    finding = make("exploding_gradient", "info", 0, "grew", evidence={"factor": 2})
    with pytest.raises(TypeError):
        finding.evidence["factor"] = 3.0
    with pytest.raises(AttributeError):
        finding.step = 1


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="no_such_kind"):
        make("no_such_kind", "info", 0, "nothing")


def test_long_names_are_shortened_and_fewer_are_shown():
    names = [f"{i}.{'deep.' * 20}weight" for i in range(5)]
    text = listed(names)
    assert text.startswith("0.deep.")
    assert text.endswith(" and 3 more")
    assert text.count("…") == 2
