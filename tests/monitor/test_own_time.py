"""Whose time counts: that of the training's own steps, whatever else the process does in between."""

from __future__ import annotations

import time

import torch
from torch import nn

import steadygrad as sg

PAUSE_S = 0.3


def trained_s(pause_s, between=lambda model: None):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with sg.guard(model, optimizer) as guard:
        for _ in range(3):
            time.sleep(pause_s)
            between(model)
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        return guard._logbook.spending.trained()


def test_a_pause_between_two_steps_is_not_the_trainings_time():
    assert trained_s(PAUSE_S) < PAUSE_S


@torch.no_grad()
def evaluate(model):
    model(torch.ones(2, 4))
    time.sleep(PAUSE_S)


def test_nor_is_an_evaluation():
    assert trained_s(0.0, evaluate) < PAUSE_S


def test_where_no_forward_pass_is_heard_all_that_passes_counts():
    weight = nn.Parameter(torch.ones(3))
    model = nn.ParameterList([weight])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with sg.guard(model, optimizer) as guard:
        for _ in range(3):
            time.sleep(PAUSE_S)
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
        assert guard._logbook.spending.trained() > 2 * PAUSE_S
