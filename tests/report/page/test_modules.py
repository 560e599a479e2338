from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.records import TensorInfo
from steadygrad.report.page.data.buckets import buckets
from steadygrad.report.page.data.modules import LEAST_GROUPS, MOST_GROUPS, groups, ranking
from steadygrad.report.page.data.raster import raster
from steadygrad.runfile import open_run

NAMES = st.lists(st.lists(st.sampled_from("abc") | st.text(max_size=3), min_size=1, max_size=4).map(".".join))


@given(NAMES)
def test_every_tensor_is_in_exactly_one_group(names):
    found = groups([TensorInfo(name) for name in names])
    assert [i for group in found for i in range(group.first, group.first + group.count)] == list(
        range(len(names))
    )


def test_modules_are_as_deep_as_gives_an_overview():
    names = [f"blocks.{i}.{part}" for i in range(12) for part in ("attn.w", "attn.b", "mlp.w", "mlp.b")]
    assert [group.name for group in groups([TensorInfo(name) for name in names])][:2] == [
        "blocks.0.attn",
        "blocks.0.mlp",
    ]
    many = [TensorInfo(f"blocks.{i}.{name}") for i in range(70) for name in ("a.w", "a.b", "c.w", "c.b")]
    assert len(groups(many)) == 70
    assert len(groups([TensorInfo(f"b.{i}.w") for i in range(10_000)])) <= MOST_GROUPS


def test_the_worst_and_the_fastest_growing_come_first(record):
    norms = np.ones((400, 4))
    norms[:, 1] = np.exp(np.linspace(0, 8, 400))
    norms[200, 2] = 1e12
    norms[7, 3] = np.nan
    with open_run(record(norms)) as run:
        rank = ranking(raster(run, buckets((run,), 100)))
    assert np.argsort(-rank.worst)[:2].tolist() == [3, 2]
    assert np.argmax(rank.growth) == 1


def test_a_deep_stack_is_put_together_in_stretches():
    names = [
        "inp.weight",
        *(f"blocks.{i}.{end}" for i in range(5000) for end in ("weight", "bias")),
        "out.weight",
    ]
    found = groups([TensorInfo(name) for name in names])
    assert [found[i].name for i in (0, 1, 2, -1)] == ["inp", "blocks.0–125", "blocks.126–251", "out"]
    assert LEAST_GROUPS <= len(found) <= MOST_GROUPS
    assert {group.count for group in found[1:-2]} == {252}
