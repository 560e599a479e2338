import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.runfile.coding import Layout, from_readings
from steadygrad.runfile.tiers import FACTOR, HELD_SHARE, ChunkSize, Plan, next_plan, protected_rows


def settle(chunks, budget):
    """Carry plans out on sizes alone, as a file would shrink."""
    plans = []
    while sum(chunk.size_bytes for chunk in chunks) > budget:
        plan = next_plan(chunks, budget)
        if plan is None:
            break
        plans.append(plan)
        chunks = [_carried_out(chunk, plan) if chunk.first == plan.first else chunk for chunk in chunks]
    return chunks, plans


def _carried_out(chunk, plan):
    shrink = max(1, plan.resolution // chunk.tier)
    rows = max(1, chunk.rows // shrink)
    return ChunkSize(
        chunk.first, rows, plan.resolution, held=False, size_bytes=max(1, chunk.size_bytes // shrink)
    )


CHUNKS = st.lists(
    st.tuples(st.integers(1, 1024), st.booleans(), st.integers(1, 10**6)), min_size=1, max_size=30
)


@given(CHUNKS, st.integers(1, 10**7))
def test_planning_ends_under_the_budget_or_with_nothing_left(parts, budget):
    chunks = [ChunkSize(i, rows, 1, held, size) for i, (rows, held, size) in enumerate(parts)]
    chunks, plans = settle(chunks, budget)
    assert len(plans) <= 12 * len(parts)
    assert sum(chunk.size_bytes for chunk in chunks) <= budget or next_plan(chunks, budget) is None


def test_the_past_fades_from_the_oldest_on():
    chunks, _ = settle([ChunkSize(i, 64, 1, held=False, size_bytes=1000) for i in range(100)], 20_000)
    tiers = [chunk.tier for chunk in chunks]
    assert tiers == sorted(tiers, reverse=True)
    assert tiers[-1] == 1
    assert tiers[0] >= FACTOR**2


def test_held_chunks_go_last_but_not_beyond_their_share():
    held = [ChunkSize(i, 64, 1, held=True, size_bytes=1000) for i in range(2)]
    plain = [ChunkSize(i, 64, 1, held=False, size_bytes=1000) for i in range(2, 12)]
    assert next_plan([*held, *plain], 10_000).first == 2
    assert next_plan([*held, *plain], int(2000 / HELD_SHARE) - 1) == Plan(0, FACTOR, protect=False)


def test_rows_near_a_finding_of_their_optimizer_are_protected(wild, tensors_named):
    head = from_readings(wild(1000, 2), Layout(tensors_named(2))).head
    protected = protected_rows(head, [(500, 0), (10, 1)])
    np.testing.assert_array_equal(np.flatnonzero(protected), np.arange(244, 757))
