"""Spectral radius 0.7 over a hundred steps: the beginning of the sequence teaches nothing."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)


class LastStep(nn.Module):
    """A tanh RNN whose recurrent matrix is a rotation, scaled by ``radius``."""

    def __init__(self, radius):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 32, batch_first=True), nn.Linear(32, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=radius)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


model, x = LastStep(0.7), 0.01 * torch.randn(16, 100, 2)
checkup = sg.check(model, x, lambda output: output.square().mean())
print(checkup)
print(checkup.time_gain)
