"""The demo's claim, in full length: plain training and the textbook clip lose, the guard doesn't."""

from __future__ import annotations

import pytest

from steadygrad.demo.arms import CLIP, GUARD, PLAIN
from steadygrad.demo.digits_cnn import DigitsCNN
from steadygrad.demo.outcome import judge
from steadygrad.demo.table_regression import TableRegression
from steadygrad.demo.text_rnn import TextRNN
from steadygrad.demo.training import train

SEEDS = range(5)


def fates(workload, seed, folder):
    return [judge(train(workload, arm, seed, folder)).fate for arm in (PLAIN, CLIP, GUARD)]


@pytest.mark.parametrize("seed", SEEDS)
def test_table_in_a_few_epochs(tmp_path, seed):
    assert fates(TableRegression(seed, quick=True), seed, tmp_path) == ["diverged", "diverged", "learned"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_table(tmp_path, seed):
    assert fates(TableRegression(seed), seed, tmp_path) == ["diverged", "diverged", "learned"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_text(tmp_path, seed):
    assert fates(TextRNN(), seed, tmp_path) == ["diverged", "never learned", "learned"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_digits(tmp_path, seed):
    assert fates(DigitsCNN(), seed, tmp_path) == ["diverged", "never learned", "learned"]
