from __future__ import annotations

import pytest

from steadygrad import policies
from steadygrad.errors import UsageError
from steadygrad.launch import POLICIES, parse_policy


def test_every_policy_can_be_asked_for():
    assert sorted(POLICIES) == sorted(name for name in policies.__all__ if name.islower())


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("auto", policies.auto),
        ("clip_norm(1)", lambda: policies.clip_norm(1)),
        ("clip_norm(max_norm=1e-3)", lambda: policies.clip_norm(1e-3)),
        (
            " chain(agc(0.01), clip_norm(2.0)) ",
            lambda: policies.chain(policies.agc(0.01), policies.clip_norm(2.0)),
        ),
    ],
)
def test_a_call_makes_the_policy_that_it_says(text, same):
    assert repr(parse_policy(text).make(policies)) == repr(same())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clip_nrom(1)", "did you mean 'clip_norm'"),
        ("clip_norm(", "expected a call such as"),
        ("", "expected a call such as"),
        ("1.0", "got a value"),
        ("clip_norm(x)", "there is no policy 'x'"),
        ("__import__('os').system('true')", "neither a number nor a policy"),
        ("clip_norm(1 + 2 * 3)", "neither a number nor a policy"),
    ],
)
def test_what_is_no_policy_is_refused_with_a_hint(text, says):
    with pytest.raises(UsageError, match="--policy") as error:
        parse_policy(text)
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["clip_norm()", "clip_norm(-1)", "clip_norm(1, 2, 3, 4)", "auto(nothing=1)"])
def test_arguments_that_a_policy_does_not_take(text):
    with pytest.raises(UsageError):
        parse_policy(text).make(policies)
