"""Every way to hand parameters to a clip, of which some can be walked over only once."""

import itertools

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
body, head = nn.Linear(4, 6), nn.Linear(6, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
utils = nn.utils


def both():
    return itertools.chain(body.parameters(), head.parameters())


def in_two_steps():
    total = utils.get_total_norm([p.grad for p in both()])
    utils.clip_grads_with_norm_(both(), max_norm=0.5, total_norm=total)
    return total


ways = [
    lambda: utils.clip_grad_norm_(filter(lambda p: p.requires_grad, both()), 0.5),
    lambda: utils.clip_grad_norm_(parameters=(p for p in both()), max_norm=0.5),
    lambda: utils.clip_grad_norm_(list(both()), 0.5, norm_type=2),
    in_two_steps,
    lambda: utils.clip_grad_value_(both(), 0.01) or torch.zeros(()),
]
for clip in ways:
    x = torch.randn(8, 4)
    loss = (head(torch.tanh(body(x))) - 3).square().mean()
    optimizer.zero_grad()
    loss.backward()
    before = utils.get_total_norm([p.grad for p in both()])
    clip()
    after = utils.get_total_norm([p.grad for p in both()])
    optimizer.step()
    print(f"before {before:.6f} after {after:.6f} loss {loss:.6f}")
