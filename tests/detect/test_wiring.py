from __future__ import annotations

from steadygrad.catalog import entry
from steadygrad.detect import missing_zero_grad, stale_optimizer


def test_stale_optimizer_names_what_is_never_updated():
    finding = stale_optimizer(3, ["group0.param0"] * 2, [f"layer{i}.weight" for i in range(9)], optimizer=1)
    assert (finding.kind, finding.severity, finding.step, finding.optimizer) == (
        "stale_optimizer",
        "error",
        3,
        1,
    )
    assert finding.where[0] == "layer0.weight"
    assert "and 6 more" in finding.summary
    assert finding.remedies == entry("stale_optimizer").remedies


def test_stale_optimizer_with_nothing_missing_names_what_it_holds():
    assert stale_optimizer(0, ["group0.param3"], []).where == ("group0.param3",)


def test_missing_zero_grad_tells_for_how_long():
    finding = missing_zero_grad(4, {"steps": 8})
    assert (finding.kind, finding.severity, finding.step) == ("missing_zero_grad", "warning", 4)
    assert "8 steps in a row" in finding.summary
    assert missing_zero_grad(4, {}).summary
