"""Whole numbers side by side in the words of a sum: what each rank wrote arrives, and what all counted is the sum."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.ranks.flags import Flags
from steadygrad.ranks.lanes import bad_losses_in, code, device_code, norms_in, pack, unpack
from steadygrad.ranks.letter import Form, Letter
from steadygrad.ranks.seen import Seen

WORDS = {8: torch.float64, 4: torch.float32}
norms = st.one_of(st.none(), st.floats(min_value=0.0), st.just(math.nan), st.just(math.inf))
losses = st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False), st.just(math.nan))


def close(norm, told):
    """0.4 % off at most, and of its own kind; what float32 hasn't is its largest or nothing."""
    if norm is None:
        return told == -1.0
    if not math.isfinite(norm):
        return repr(float(told)) == repr(norm)
    narrow = min(norm, float(np.finfo(np.float32).max))
    return told == pytest.approx(narrow, rel=2**-8, abs=2e-38)


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=7, max_size=7), min_size=1, max_size=40), st.integers(1, 3)
)
def test_counts_add_up_beside_each_other(ranks, lanes):
    words = np.sum([pack(enumerate(counts), 7, lanes) for counts in ranks], axis=0)
    assert unpack(words, lanes)[:7].tolist() == np.sum(ranks, axis=0).tolist()


def test_as_many_ranks_as_a_lane_counts():
    most = 2**17 - 1
    assert unpack(np.array(pack([(0, 1), (1, 1), (2, 1)], 3, 3)) * most, 3).tolist() == [most] * 3


@given(norms, st.booleans())
def test_a_norm_in_seventeen_bits(norm, bad):
    told = np.array([code(norm, bad_loss=bad)])
    assert 0 <= told[0] < 2**17
    assert close(norm, norms_in(told)[0])
    assert bad_losses_in(told)[0] == bad


@given(norms, losses)
def test_the_device_writes_what_the_host_writes(norm, loss):
    on_host = code(norm, bad_loss=loss is not None and not math.isfinite(loss))
    assert int(device_code(norm, loss, torch.device("cpu"))) == on_host


@pytest.mark.parametrize("word_bytes", WORDS)
@given(st.lists(st.tuples(norms, losses, st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_letters_of_all_ranks_are_seen_by_each(word_bytes, ranks):
    letters = [
        Letter(
            rank, len(ranks), loss, norm, lags, Flags(due=1.0, off=float(off)), outside=(off, lags), joins=off
        )
        for rank, (norm, loss, lags, off) in enumerate(ranks)
    ]
    form = Form(len(ranks) - 1, len(ranks))
    for again in (
        letters[-1],
        replace(letters[-1], rank=len(ranks) - 1, joins=False, outside=(False, False)),
    ):
        plain = replace(again, outside=(False, False))
        form.fill(
            out := np.empty(len(plain.on_host())),
            plain.loss,
            plain.norm,
            plain.flags,
            plain.lags,
            plain.joins,
        )
        np.testing.assert_array_equal(out, plain.on_host())
    dtype = WORDS[word_bytes]
    host = [torch.tensor(one.on_host(word_bytes), dtype=dtype) for one in letters]
    device = [one.on_device(dtype, torch.device("cpu")) for one in letters]
    for a, b in zip(host, device, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.0, equal_nan=True)
    seen = Seen(7, torch.stack(host).sum(0).numpy(), len(ranks))
    assert all(close(norm, told) for (norm, *_), told in zip(ranks, seen.norms.tolist(), strict=True))
    assert all(close(norm, seen.norm_of(rank)) for rank, (norm, *_) in enumerate(ranks))
    assert seen.bad_losses.tolist() == [loss is not None and math.isnan(loss) for _, loss, *_ in ranks]
    assert seen.flags == Flags(due=len(ranks), off=sum(off for *_, off in ranks))
    assert seen.lags == any(lags for _, _, lags, _ in ranks)
    assert seen.outside == (any(off for *_, off in ranks), seen.lags)
    assert seen.is_plain != any(seen.outside)
    assert not seen.fault
    assert seen.joins == any(off for *_, off in ranks)
    logged = [loss for _, loss, *_ in ranks if loss is not None]
    if not logged:
        assert seen.loss is None
    else:
        mean = math.fsum(logged) / len(logged)
        tolerance = max(map(abs, logged)) * 1e-6 if math.isfinite(mean) else 0.0
        assert seen.loss == pytest.approx(mean, abs=tolerance, nan_ok=True)


def test_a_fault_is_no_plain_step():
    seen = Seen(0, np.array(Letter(0, 2, fault=True).on_host()), 2)
    assert seen.fault
    assert not seen.is_plain
