"""``steadygrad check`` as a person types it."""

from __future__ import annotations

import sys

import pytest

SOURCE = """
import torch
from torch import nn

def healthy():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, torch.randn(32, 4), lambda output: output.square().mean(), torch.optim.Adam(model.parameters())

def without_optimizer():
    return healthy()[:3]

def disconnected():
    model, batch, _ = without_optimizer()
    return model, batch, lambda output: output.detach().square().mean()

def too_fast():
    model, batch, loss, _ = healthy()
    return model, batch, loss, torch.optim.SGD(model.parameters(), 1e3)

def raises():
    raise ValueError("no such data set")

def quits():
    raise SystemExit(0)

def number():
    return 3

def two():
    return healthy()[:2]

def vector():
    model, batch, _ = without_optimizer()
    return model, batch, lambda output: output

class Faulty(nn.Linear):
    def forward(self, x):
        raise KeyError("hidden")

def faulty():
    return Faulty(4, 1), torch.randn(8, 4), lambda output: output.mean()

def wrong_shape():
    return nn.Sequential(nn.Linear(4, 1)), torch.randn(8, 5), lambda output: output.mean()

constant = 3
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    (tmp_path / "preparations.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "broken_import.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "quits_import.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (tmp_path / "syntax_error.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "missing_import.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("preparations", "broken_import", "quits_import", "syntax_error", "missing_import"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "target", ["preparations:healthy", "preparations:without_optimizer", "preparations.py:healthy"]
)
def test_a_healthy_training_exits_with_0(call, target):
    code, out, err = call("check", target)
    assert (code, err) == (0, "")
    assert out.startswith("checkup: nothing to worry about; first loss")


@pytest.mark.parametrize(
    ("factory", "kind"), [("disconnected", "disconnected_loss"), ("too_fast", "learning_rate_too_high")]
)
def test_a_fault_exits_with_1(call, factory, kind):
    code, out, _ = call("check", f"preparations:{factory}")
    assert code == 1
    assert kind in out
    assert "try:" in out


def test_remedies_are_tried(call):
    code, out, _ = call("check", "preparations:too_fast", "--try", "--steps", "5")
    assert code == 1
    assert "Lower the learning rate" in out.partition("\n\n")[2]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("preparations", "expected package.module:factory, or file.py:factory; got 'preparations'"),
        ("preparations:", "expected package.module:factory"),
        ("preparations:nothing", "preparations has no 'nothing'. It has healthy, without_optimizer"),
        ("preparations:constant", "preparations:constant is of type int; expected a function"),
        ("preparations:raises", "preparations:raises raised ValueError: no such data set (preparations.py:21)"),
        ("preparations:number", "preparations:number returned something of type int; expected (model, batch, loss_fn)"),
        ("preparations:two", "returned 2 things; expected"),
        ("preparations:vector", "loss_fn returned a tensor of shape (32, 1)"),
        ("preparations:faulty", "one training step raised KeyError: 'hidden' (preparations.py:38)"),
        ("preparations:quits", "preparations:quits raised SystemExit: 0 (preparations.py:24)"),
        ("preparations:wrong_shape", "8x5 and 4x1) (linear.py:"),
        ("quits_import:f", "importing quits_import raised SystemExit: 0 (quits_import.py:1)"),
        ("syntax_error.py:f", "raised SyntaxError: invalid syntax (syntax_error.py, line 1). See"),
        ("nothing.py:f", "error: there is no file nothing.py. See"),
        ("no_such_module_anywhere:f", "there is no module 'no_such_module_anywhere'"),
        ("broken_import:f", "importing broken_import raised ZeroDivisionError: division by zero (broken_import.py:1)"),
        ("missing_import:f", "importing missing_import raised ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ],
)  # fmt: skip
def test_bad_use_exits_with_2_and_one_sentence(call, target, message):
    code, out, err = call("check", target)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_no_argument_is_told(call):
    code, _, err = call("check")
    assert code == 2
    assert "Missing argument 'MODULE:FACTORY'" in err
