from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import torch
from torch import nn

import steadygrad as sg
from steadygrad.detect.finding import make
from steadygrad.records import Finding
from steadygrad.summary import Counts, copies_told, summarise

EXPLODED = make("exploding_gradient", "error", 7, "It grew.", where=["a.weight"])
NONFINITE = make("nonfinite_gradient", "error", 9, "NaN in 2 of 2 gradients.", where=["a.weight"])


def told(findings=(), **counts):
    return summarise("guard", Counts(steps=40, **counts), findings, (), (), None)


def test_one_root_cause_is_told_once_with_what_came_of_it():
    text = told([EXPLODED, NONFINITE, replace(EXPLODED, step=500)])
    assert text.startswith("steadygrad guard: exploding_gradient in 40 steps")
    assert text.count("why: ") == 1
    assert "then: error: nonfinite_gradient at step 9" in text
    assert "again once, at step 500" in text
    assert "cured when: " in text


def test_errors_come_before_warnings():
    early = make("stale_optimizer", "warning", 1, "Stale.")
    text = told([early, EXPLODED])
    assert text.index("exploding_gradient at") < text.index("stale_optimizer at")
    assert text.startswith("steadygrad guard: exploding_gradient in")


def test_a_run_that_had_to_be_held_is_not_called_healthy():
    text = told(engaged_at=12, clipped=9)
    assert text.startswith("steadygrad guard: unstable from step 12, held (9 steps clipped), 40 steps")


def test_caps_that_engage_are_counted_live():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with sg.guard(model, optimizer) as guard:
        for step in range(60):
            optimizer.zero_grad()
            (model(torch.randn(16, 8)) - 3.0 * (1 + 400 * (20 <= step < 23))).square().mean().backward()
            optimizer.step()
        assert guard.counts.clipped
        assert guard.counts.engaged_at == 20
        if not [f for f in guard.findings if f.severity != "info"]:
            assert "unstable from step 20, held" in guard.summary()


def test_a_kind_of_a_newer_version_is_told_too():
    text = summarise(
        "watch", Counts(steps=1), [Finding("cosmic_ray", "error", 0, (), "A bit.")], (), (), None
    )
    assert "error: cosmic_ray at step 0: A bit." in text


def test_notebooks_get_html_without_letting_names_in():
    finding = Finding(
        "divergence",
        "error",
        3,
        ("<b>",),
        "x < y & z",
        MappingProxyType({"loss": 2.0}),
        ("<i>",),
        EXPLODED.remedies,
    )
    page = finding._repr_html_()
    assert "<dt>try</dt>" in page
    assert "<dt>try</dt>" not in replace(finding, remedies=())._repr_html_()
    assert "<b>divergence" not in page
    assert "&lt;b&gt;" in page
    assert "x &lt; y &amp; z" in page
    assert "loss 2" in page
    model = nn.Linear(2, 1)
    with sg.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        assert "no optimizer step seen yet" in monitor._repr_html_()


def test_the_memory_of_the_copies_is_told_while_there_are_any():
    model = nn.Linear(500, 100)
    optimizer = torch.optim.AdamW(model.parameters())
    with sg.guard(model, optimizer) as guard:
        assert "recovery:" not in guard.summary()
        for _ in range(30):
            optimizer.zero_grad()
            model(torch.randn(8, 500)).square().mean().backward()
            optimizer.step()
        # Weights and two moments, twice; and the last trusted copy was not the first.
        assert "recovery: two copies of the state take 1.2 MB of host memory, made anew " in guard.summary()
    with sg.guard(model, optimizer, recover=False) as guard:
        optimizer.step()
        assert "recovery:" not in guard.summary()


def test_copies_made_once_are_not_made_anew():
    assert copies_told(65_000_000, 0) == "recovery: two copies of the state take 65.0 MB of host memory"
    assert copies_told(1_000, 1) == (
        "recovery: two copies of the state take 1.0 kB of host memory, made anew 1 time"
    )
