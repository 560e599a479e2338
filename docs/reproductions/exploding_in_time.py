"""An identity RNN scaled by 1.3: each step back in time multiplies the gradient by as much."""

import torch
from torch import nn

import steadygrad as sg

torch.manual_seed(0)


class LastStep(nn.Module):
    """A ReLU RNN whose recurrent matrix is the identity, scaled by ``radius``."""

    def __init__(self, radius):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 32, nonlinearity="relu", batch_first=True), nn.Linear(32, 1)
        self.rnn.weight_hh_l0.data = radius * torch.eye(32)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


model, x = LastStep(1.3), 0.01 * torch.randn(16, 40, 2)
checkup = sg.check(model, x, lambda output: output.square().mean())
print(checkup)
print(checkup.time_gain)
