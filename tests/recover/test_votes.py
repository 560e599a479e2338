"""All ranks go back to one copy, or none does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.recover.votes import decide

WORLD = 3
kinds = st.sampled_from(["", "numbers", "skips", "data", "loss", "accept"])


def vote(kind, copy=8, text="", undoes=False, cause=()):
    told = {"kind": kind, "text": text, "where": [], "copy": copy, "undoes": undoes, "cause": list(cause)}
    return json.dumps(told)


def decided(*votes):
    return decide(dict(enumerate(votes)), len(votes))


@given(votes=st.lists(st.tuples(kinds, st.sampled_from([None, 4, 8])), min_size=WORLD, max_size=WORLD))
def test_back_only_to_a_copy_that_every_rank_has(votes):
    decision = decided(*(vote(kind, copy) for kind, copy in votes))
    said, copies = [kind for kind, _ in votes], {copy for _, copy in votes}
    wanted = {"numbers", "loss"} & set(said) or ("skips" in said and "data" not in said)
    can = len(copies) == 1 and None not in copies
    expected = ("back" if can else "off") if wanted else "accept" if "accept" in said else "none"
    assert decision.deed == expected


@given(present=st.sets(st.integers(0, WORLD - 1), max_size=WORLD - 1))
def test_a_rank_that_does_not_come_ends_recovery_and_is_named(present):
    decision = decide({rank: vote("numbers") for rank in present}, WORLD)
    assert decision.deed == "off"
    assert all(str(rank) in decision.text for rank in set(range(WORLD)) - present)


def test_the_reason_names_the_rank_that_has_it():
    decision = decided(vote(""), vote("numbers", text="non-finite parameters in w"), vote("skips"))
    assert decision.text == "non-finite parameters in w (rank 1)"
    assert decided(*[vote("loss", text="repeated spikes: far up")] * 3).text == "repeated spikes: far up"


@pytest.mark.parametrize(("undo", "whole"), [([True, True], True), ([True, False], False)])
def test_a_rollback_is_undone_everywhere_or_nowhere(undo, whole):
    decision = decided(*(vote("accept", undoes=one) for one in undo))
    assert (decision.deed, decision.undoes) == ("accept", whole)


def test_a_copy_that_holds_the_cause_on_one_rank_is_the_end_on_all():
    moment = "optimizer state of w"
    assert decided(vote(""), vote("numbers", cause=[moment]), vote("numbers")).cause == [moment]
    assert decided(vote(""), vote("numbers"), vote("loss")).cause == []
