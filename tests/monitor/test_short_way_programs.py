"""The same training twice, with the short way open and with it closed: nobody can tell which was which."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.monitor.happenings import EVENTS
from tests.monitor.outcomes import compare
from tests.monitor.programs import OPTIMIZERS, POLICIES, RECOVER, Program

STEPS = 110
happenings = st.lists(st.tuples(st.integers(30, STEPS - 1), st.sampled_from(EVENTS)), max_size=12)
programs = st.builds(
    Program,
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    mode=st.sampled_from(["guard", "guard", "guard", "watch"]),
    policy=st.sampled_from(["auto", "auto", *sorted(POLICIES)]),
    recover=st.sampled_from(sorted(RECOVER)),
    loss=st.sampled_from(["before", "between", "after", "never", "sometimes", "several"]),
    groups=st.sampled_from(["one", "reversed", "alike", "rates"]),
    clips=st.sampled_from(["never", "never", "measured", "bounded"]),
    depth=st.sampled_from([1, 10]),
    normed=st.booleans(),
    two=st.booleans(),
    listens=st.booleans(),
    steps=st.just(STEPS),
    drift=st.sampled_from([1.0, 1.03]),
    events=happenings.map(sorted).map(tuple),
)


@settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs)
def test_whatever_happens_the_outcome_is_the_same(program):
    assert not compare(program)


def at(first, last, what):
    return tuple((step, what) for step in range(first, last))


@pytest.mark.parametrize(
    "program",
    [
        # A rollback that one optimizer brings about has the weights of the other measured, too.
        Program(optimizer="momentum", two=True, recover="every 7", events=((60, "flipped weight"),)),
        # Whoever asks after each step has all told, and copies and looks come no later for it.
        Program(recover="None", normed=True, recorded=True, events=at(33, 90, "ask last")),
        Program(recorded=True, loss="before", events=((50, "log many"), (51, "evaluate"), (60, "log nan"))),
        # What a clip has measured is no step, but a turn of the weights' norms.
        Program(recorded=True, clips="measured", events=at(41, 52, "no step")),
        Program(optimizer="SGD", clips="bounded", loss="between", events=at(50, 60, "left out")),
        Program(recover="every 7", loss="after", events=((40, "save"), (61, "load net"), (80, "load guard"))),
        Program(
            optimizer="Adam closure", events=((44, "closure raises"), (45, "spike1e20"), (70, "nan batch"))
        ),
        Program(recorded=True, events=((50, "freeze"), (60, "add group"), (70, "thaw"), (80, "attach anew"))),
        # Skips without an end: the error comes at the same step, and says the same.
        Program(recover="False", recorded=True, events=at(50, 70, "nan batch")),
    ],
    ids=lambda program: f"{program.optimizer} {' '.join(sorted({what for _, what in program.events}))}",
)
def test_what_has_gone_wrong_once(program):
    assert not compare(program)
