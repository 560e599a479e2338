"""Who holds what: every tensor once, in the order of depth, and wrong groups told."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import steadygrad as sg
from steadygrad.measure import ParamTable
from steadygrad.ranks.census import laid_out, layout_for, layout_of, misfit, packed, read, tell, told_of
from steadygrad.ranks.replica_groups import ReplicaGroups


def note(*held, policy="auto()"):
    """What a rank tells: names and the ranks that hold them, with a norm of 3."""
    rows = [
        {
            "name": name,
            "shape": [2],
            "dtype": "float32",
            "trainable": True,
            "group": 0,
            "holders": list(holders),
            "parts": 1,
            "norm": 3.0,
        }
        for name, holders in held
    ]
    return {"patterns": ["*"], "matched": [True], "tables": [rows], "policy": policy, "rates": []}


@st.composite
def holdings(draw):
    world = draw(st.integers(1, 4))
    tensors = draw(st.lists(st.sets(st.integers(0, world - 1), min_size=1), max_size=12))
    return world, [tuple(sorted(holders)) for holders in tensors]


@given(holdings())
def test_every_tensor_has_one_row_in_the_order_of_the_first_rank(drawn):
    world, tensors = drawn
    held = [[(f"t{i}", one) for i, one in enumerate(tensors) if rank in one] for rank in range(world)]
    notes = [note(*one) for one in held]
    assert misfit(notes) == ""
    rows = laid_out(read(list(map(packed, notes))))[0]
    assert sorted(row["name"] for row in rows) == sorted(f"t{i}" for i in range(len(tensors)))
    assert all(row["norm"] == pytest.approx(3.0) for row in rows)
    order = [row["name"] for row in rows]
    places = [order.index(name) for name, _ in held[0]]
    assert places == sorted(places)


def test_experts_stay_at_their_depth():
    rows = laid_out(
        [note(("a", (0, 1)), ("e0", (0,)), ("b", (0, 1))), note(("a", (0, 1)), ("e1", (1,)), ("b", (0, 1)))]
    )[0]
    assert [row["told"] for row in rows] == ["a", "e0", "e1", "b"]


def test_one_name_of_two_tensors_is_told_apart():
    rows = laid_out(
        [note(("w", (0, 1, 2))), note(("w", (0, 1, 2))), note(("w", (0, 1, 2))), note(("w", (3,)))]
    )[0]
    assert [row["told"] for row in rows] == ["ranks 0-2: w", "rank 3: w"]


@pytest.mark.parametrize("norm", [math.nan, math.inf, 1e300])
def test_a_norm_that_is_no_number_does_no_harm(norm):
    one = note(("w", (0,)))
    one["tables"][0][0]["norm"] = norm
    row = laid_out(read([packed(one)]))[0][0]
    assert not row["norm"] < 1e300


def test_a_name_that_is_taken_is_told_apart():
    rows = laid_out([note(("w", (0,))), note(("v", (1,)))], taken={"w"})[0]
    assert [row["told"] for row in rows] == ["rank 0: w", "v"]


def test_a_group_in_which_this_rank_holds_nothing_keeps_its_rates():
    """A policy that weighs steps by their rates must take the same rate for a row on every rank."""
    groups = ReplicaGroups(("*",), ((0,),), 2)
    table = ParamTable({}, [{"params": [torch.ones(2)]}, {"params": []}])
    theirs = note(("there", (1,)))
    theirs["tables"][0][0]["group"] = 1
    rows = laid_out([{**tell([table], groups)}, theirs])[0]
    assert layout_for(0, rows, table, groups, 0).group_of == [0, 1]


def different(one, **changes):
    one["tables"][0][0].update(changes)
    return one


WRONG = {
    "rank 1 holds w, but the group handed in for it there has only ranks 0": [
        note(("w", (0,))),
        note(("w", (0,))),
    ],
    "rank 1 holds w, but the group handed in for it there doesn't have that rank": [
        note(("w", (0,))),
        note(("w", ())),
    ],
    "w is said to be replicated over ranks 0-1, but rank 1 doesn't hold it": [
        note(("w", (0, 1))),
        note(("v", (1,))),
    ],
    r"w isn't the same tensor on ranks 0-1 \(\(2,\) and \(3,\)": [
        note(("w", (0, 1))),
        different(note(("w", (0, 1))), shape=[3]),
    ],
    "expected the same patterns on every rank": [note(("w", (0,))), {**note(("w", (1,))), "patterns": ["a"]}],
    r"'\*' matches none on any rank": [{**note(), "matched": [False]}, {**note(), "matched": [False]}],
    "expected the same policy on every rank": [note(("w", (0,))), note(("v", (1,)), policy="steady()")],
    "parameter groups": [note(("w", (0,))), {**note(("v", (1,))), "rates": [[0.1]]}],
    "as many optimizers": [note(("w", (0,))), {**note(), "tables": []}],
    "got None on rank 0": [{}, note(("w", (1,)))],
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_wrong_is_said(told):
    why = misfit(WRONG[told])
    with pytest.raises(AssertionError, match=told):
        assert not why, why


def test_a_rank_finds_its_own_rows_and_shares():
    groups = [ReplicaGroups(("e*",), ((rank,),), 2) for rank in range(2)]
    tables = []
    for rank in range(2):
        params = {f"e{rank}": torch.full((4,), 2.0), "w": torch.ones(9)}
        names = {id(param): name for name, param in params.items()}
        tables.append(ParamTable(names, [{"params": list(params.values())}]))
    notes = [
        {**tell(table, one), "policy": "", "rates": []}
        for table, one in zip([[table] for table in tables], groups, strict=True)
    ]
    rows = laid_out(read(list(map(packed, notes))))[0]
    layouts = [layout_for(rank, rows, tables[rank], groups[rank], 0) for rank in range(2)]
    for rank, (table, layout) in enumerate(zip(tables, layouts, strict=True)):
        table.lay_out(layout)
        assert [one.name for one in table.tensors] == ["e0", "e1", "w"]
        assert layout.shares.tolist() == [float(rank == 0), float(rank == 1), 0.5]
        assert layout.param_norms.tolist() == [4.0, 4.0, 3.0]
        assert [len(param) for param in table.params] == [4 * (rank == 0), 4 * (rank == 1), 9]


def test_what_joins_later_stays_out_until_all_have_agreed():
    param = torch.ones(2)
    groups = ReplicaGroups(("*",), ((0,),), 2)
    table = ParamTable({id(param): "w"}, [{"params": [param]}])
    rows = laid_out([{**tell([table], groups), "policy": "", "rates": []}])[0]
    table.lay_out(layout_for(0, rows, table, groups, 0))
    held = [{"params": [param]}]
    assert not table.grown(held)
    assert table.extend(held) == []
    grown = [{"params": [param, torch.ones(3)]}]
    assert table.extend(grown) == []
    assert [one.info.name for one in table.strangers] == ["group0.param1"]
    assert not table.grown(grown)
    assert [id(one) for one in table.params] == [id(param)]
    told = [told_of(*one, groups) for one in table.strangers]
    more = laid_out([{"tables": [told]}, {"tables": note(("new", (1,)))["tables"]}])[0]
    names = [(one.info.name, one.param) for one in table.strangers]
    added = table.admit(layout_of(0, more, names, groups, 0, table.last_group))
    assert [one.name for one in added] == ["group0.param1", "new"]
    assert [one.name for one in table.tensors] == ["w", *(one.name for one in added)]
    assert [len(one) for one in table.params] == [2, 3, 0]
    assert table.layout.elsewhere.tolist() == [False, False, True]
    assert table.layout.shares.tolist() == [1.0, 1.0, 0.0]
    assert not table.strangers
    assert table.extend(grown) == []
    assert not table.strangers


@pytest.mark.parametrize("given", [["*"], {}, {1: None}, {"*": "dp"}])
def test_other_things_than_groups_are_refused(given):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(sg.errors.UsageError, match="replica_groups="):
        sg.guard(model, optimizer, replica_groups=given)


@pytest.mark.parametrize("call", [sg.guard, sg.watch])
def test_groups_need_a_process_group(call):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        sg.errors.UsageError, match=r"isn't initialised\. Call torch\.distributed\.init_process_group"
    ):
        call(model, optimizer, replica_groups={"*": None})
