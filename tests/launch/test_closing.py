from __future__ import annotations

from types import MappingProxyType

from steadygrad.launch.closing import closing_line
from steadygrad.launch.result import Result, Training
from steadygrad.records import Finding


def finding(kind, severity, step, where=()):
    return Finding(kind, severity, step, where, "", MappingProxyType({}), (), (), "")


def told(*trainings, **result):
    return closing_line("train.py", Result(list(trainings), **result), torch_imported=True)


def test_the_worst_and_of_equals_the_first_is_named():
    found = (
        finding("a", "warning", 1),
        finding("b", "error", 9, ("x.weight",)),
        finding("c", "error", 5, ("y.weight", "z")),
        finding("d", "info", 0),
    )
    line = told(Training("watch", "Net", None, steps=1200, findings=found))
    assert line == "watched 1,200 steps of Net, c at step 5 in y.weight and 2 more"


def test_the_cause_is_named_and_not_the_worse_that_follows_from_it():
    found = (
        finding("exploding_gradient", "error", 1, ("w",)),
        finding("learning_rate_too_high", "warning", 0),
        finding("unnormalised_input", "warning", 300),
    )
    line = told(Training("watch", "Net", None, steps=9, findings=found))
    assert line == "watched 9 steps of Net, learning_rate_too_high at step 0 and 1 more"
    several = [Training("watch", "Net", None, steps=2, findings=one) for one in (found, (), (), found[:1])]
    assert "learning_rate_too_high at step 0 and 2 more" in told(*several)


def test_what_the_guard_did_is_counted():
    line = told(Training("guard", "Net", None, steps=1, clipped=1, skipped=0))
    assert line == "guarded 1 step of Net (1 clipped), nothing found"


def test_the_next_command_is_about_the_worst_of_several():
    ill = Training("watch", "B", "/x y/b.steady", steps=2, findings=(finding("k", "error", 1),))
    line = told(Training("watch", "A", "/x y/a.steady", steps=2), ill)
    assert line.endswith("next: steadygrad explain '/x y/b.steady'")
    assert "recorded in /x y/a.steady, /x y/b.steady" in line


def test_many_models_are_told_together():
    many = [Training("watch", "Net", f"/r/{i}.steady", steps=3) for i in range(5)]
    line = told(*many, unrecorded=2)
    assert line.startswith("watched 15 steps of 5 models, one after the other or together, nothing found")
    assert "2 of them not recorded; recorded in /r/ (5 runs)" in line


def test_nothing_trained_and_nothing_watched():
    assert "trained nothing that can be seen from here" in told()
    by_hand = Training("watch", "Net", None, by_hand=True, moved=False, steps=3)
    assert "made 3 backward passes through Net and changed no parameter" in told(by_hand)
    assert "by a fault of steadygrad's own (OSError: x)" in told(fault="OSError: x")


def test_two_parts_of_one_model_are_told_apart_and_two_models_by_their_names():
    body, head = (Training("watch", "Net", None, steps=3, part=part) for part in ("body", "head"))
    assert told(body, head).startswith(
        "watched 3 steps of Net (body), nothing found; watched 3 steps of Net (head)"
    )
    assert told(body).startswith("watched 3 steps of Net, nothing")
    assert "of Net, nothing found" in told(body, Training("watch", "Net", None, steps=3))


def test_the_optimizers_of_one_model_are_no_models():
    of_one = [Training("watch", "Net", None, steps=3, number=2) for _ in range(5)]
    assert closing_line("a.py", Result(of_one), torch_imported=True) == (
        "watched 15 steps of Net by 5 optimizers, nothing found"
    )
    of_one.append(Training("watch", "Other", None, steps=3, number=3))
    assert "of 2 models by 6 optimizers" in closing_line("a.py", Result(of_one), torch_imported=True)
    apart = [Training("watch", "Net", None, steps=3, number=i) for i in range(1, 6)]
    assert "of 5 models" in closing_line("a.py", Result(apart), torch_imported=True)
