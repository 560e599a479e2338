"""``steadygrad replay`` as a person types it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.bundles import bundles_of

SOURCE = """
import torch
from torch import nn

def factory():
    model = nn.Linear(4, 1)
    return model, torch.zeros(8, 4), lambda output, x: (output - x.sum(1, keepdim=True)).square().mean(), \\
        torch.optim.SGD(model.parameters(), 0.1)

def other():
    return nn.Linear(5, 1), torch.zeros(8, 5), lambda output: output.mean()
"""


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with sg.guard(model, optimizer, run="a.steady"):
        for step in range(5):
            x = torch.randn(8, 4)
            x[2] *= float("nan") if step == 4 else 1.0
            optimizer.zero_grad()
            (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
    (found,) = bundles_of(tmp_path / "a.steady")
    return found.path


def test_a_bundle_is_replayed_and_nothing_is_left_behind(bundle, call, tmp_path):
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    code, out, err = call(
        "replay", bundle, "--factory", "made.py:factory", "--try", "drop-rows", "--try", "clip=1"
    )
    assert (code, err) == (0, "")
    assert "Reproduced" in out
    assert "batch rows 2" in out
    (line,) = [one for one in out.splitlines() if one.strip().startswith("drop-rows")]
    assert line.split()[-1] == "finite"
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--factory", "made.py:nothing"], "has no 'nothing'"),
        (["--factory", "made.py:other"], "don't fit the factory's model"),
        (["--factory", "made.py:factory", "--try", "magic"], "there is no change 'magic'"),
        ([], "Missing option '--factory'"),
    ],
)
def test_wrong_calls_have_their_line(bundle, call, arguments, words):
    code, _, err = call("replay", bundle, *arguments)
    assert code == 2
    assert words in err


def test_what_is_no_bundle_says_where_bundles_are(bundle, call):
    assert "There is no such folder" in call("replay", "nowhere", "--factory", "made.py:factory")[2]
    assert bundle.name in call("replay", bundle.parent, "--factory", "made.py:factory")[2]
    assert bundle.name in call("replay", "a.steady", "--factory", "made.py:factory")[2]
    (bundle / "step.pt").write_bytes(b"not a file of torch")
    assert "can't be read" in call("replay", bundle, "--factory", "made.py:factory")[2]


def test_explain_tells_the_command(bundle, call):
    out = call("explain", "a.steady")[1]
    assert f"steadygrad replay {bundle.parent.name}/{bundle.name} --factory package.module:factory" in out
