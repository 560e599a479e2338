"""Every kind of finding has a training that shows it, leads to it, and is rid of it once the fault is taken out."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from steadygrad.catalog import CATALOG

FOLDER = Path(__file__).parents[2] / "docs" / "reproductions"

CURES = {  # the fault, as it stands in the script, and what a person would write instead
    "clip_is_step_limiter": ("clip_norm(0.01)", "clip_norm(100.0)"),
    "constant_input": ("(pixels // 255).float()", "pixels / 255"),
    "constant_prediction": ("    x = x.mean(dim=0, keepdim=True).expand(256, 8)\n", ""),
    "constant_targets": ("labels = (labels / 255).long()\n", ""),
    "dead_units": ("bias, -10.0", "bias, 0.0"),
    "disconnected_loss": (
        "torch.tensor(100.0, requires_grad=True)",
        "model(torch.randn(8, 10)).square().mean()",
    ),
    "disconnected_parameters": (".relu().detach()", ".relu()"),
    "divergence": ("= 3.0", "= 0.05"),
    "double_softmax": (", nn.Softmax(dim=1)", ""),
    "exploding_gradient": ("lr=0.05", "lr=0.001"),
    "exploding_in_time": ("LastStep(1.3)", "LastStep(1.0)"),
    "learning_rate_too_high": ("lr=1.0", "lr=1e-3"),
    "loss_spike": ("target + 1.0", "target"),
    "missing_zero_grad": ("    loss.backward()", "    optimizer.zero_grad()\n    loss.backward()"),
    "nonfinite_activation": ("0 if step == 6 else 1", "1"),
    "nonfinite_gradient": ("b[5] = a[5]", "b[5] = a[5] + 1.0"),
    "nonfinite_input": ('float("nan")', "0.5"),
    "nonfinite_loss": ("/ positive.sum()", "/ positive.sum().clamp_min(1.0)"),
    "nonfinite_parameter": ('float("nan")', "0.1"),
    "optimizer_state_corrupt": ("= 100.0", "*= 1.0"),
    "output_range_mismatch": (", nn.Sigmoid()", ""),
    "overflow_streak": (".sum().sqrt()", ".sum()"),
    "oversized_update": ("lr=0.1", "lr=1e-4"),
    "saturated_units": ("std=10.0", "std=0.1"),
    "sharp_softmax": ("factor=1.0", "factor=256**-0.5"),
    "single_class_softmax": ("nn.Softmax(dim=1)", "nn.Sigmoid()"),
    "stale_optimizer": ("model[2] = nn.Linear(16, 3)", "model[2].reset_parameters()"),
    "stalled_update": ("lr=1e-12", "lr=1e-2"),
    "unnormalised_input": (".float(),", ".float() / 128 - 1,"),
    "unscaled_targets": ("targets = prices", "targets = (prices - prices.mean()) / prices.std()"),
    "vanishing_gradient": ("nn.Sigmoid()", "nn.LayerNorm(32), nn.ReLU()"),
    "vanishing_in_time": ("LastStep(0.7)", "LastStep(1.0)"),
}


def shown(script):
    """The kinds that come out of a script."""
    left = runpy.run_path(str(script))
    watched = left.get("monitor") or left.get("guard")
    found = watched.findings if watched else left["checkup"].findings
    if watched:
        watched.close()
    return [finding.kind for finding in found]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("STEADYGRAD_QUIET", "1")


@pytest.mark.parametrize("kind", CATALOG)
def test_the_reproduction_of_a_kind_shows_it(kind, capsys):
    assert kind in shown(FOLDER / f"{kind}.py")
    told = [line for line in capsys.readouterr().out.splitlines() if f": {kind}" in line]
    assert told
    if kind != "divergence":  # which is told below the rate that is its cause
        assert not [line for line in told if line.startswith("      then: ")]


@pytest.mark.parametrize("kind", CATALOG)
def test_without_its_fault_the_same_training_shows_it_not(kind, tmp_path):
    fault, cure = CURES[kind]
    before, found, after = (FOLDER / f"{kind}.py").read_text(encoding="utf-8").partition(fault)
    assert found, f"{fault!r} isn't in {kind}.py any more"
    healthy = tmp_path / f"{kind}.py"
    healthy.write_text(before + cure + after, encoding="utf-8")
    assert kind not in shown(healthy)


def test_no_reproduction_is_left_of_a_kind_that_is_gone():
    assert {script.stem for script in FOLDER.glob("*.py")} == set(CATALOG)
