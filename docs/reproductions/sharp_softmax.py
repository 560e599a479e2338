"""Attention whose scores aren't divided by the root of the width: each query looks at one position alone."""

import torch
from torch import Tensor, nn

import steadygrad as sg


class Attention(nn.Module):
    """One head of self-attention."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        nn.init.xavier_uniform_(self.query.weight)
        nn.init.xavier_uniform_(self.key.weight)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Weighted means of all positions, ``[N, T, D]``."""
        scores = self.query(x) @ self.key(x).transpose(1, 2) * self.factor
        return torch.softmax(scores, -1) @ self.value(x)


torch.manual_seed(0)
inputs, labels = torch.randn(16, 32, 256), torch.randint(4, (16,))
model = nn.Sequential(Attention(256, factor=1.0), nn.Flatten(), nn.Linear(32 * 256, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
checkup = sg.check(model, inputs, lambda output: nn.functional.cross_entropy(output, labels), optimizer)
print(checkup)
