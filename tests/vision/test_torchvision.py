from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

import steadygrad as sg


def _train(guarded, poisoned=(), steps=4):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    guard = sg.guard(model, optimizer) if guarded else None
    for step in range(steps):
        images = torch.randn(4, 3, 64, 64)
        if step in poisoned:
            images[0, 0, 0, 0] = float("nan")
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.arange(4)).backward()
        optimizer.step()
    return model, guard


def test_healthy_resnet_is_bit_identical():
    plain, _ = _train(guarded=False)
    guarded, guard = _train(guarded=True)
    for (name, one), other in zip(plain.named_parameters(), guarded.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert guard.counts.clipped == 0


def test_poisoned_image_leaves_weights_finite():
    model, guard = _train(guarded=True, poisoned={2})
    assert all(torch.isfinite(param).all() for param in model.parameters())
    # BatchNorm's running statistics took the batch in during the forward pass, before any gradient;
    # every later step in training mode is still finite, because batch statistics are used there.
    assert guard.counts.skipped == 1
    assert guard.findings[0].kind == "nonfinite_input"
    assert guard.findings[0].step == 2


@pytest.mark.slow
def test_detection_loss_dict_is_guarded():
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1])} for _ in range(2)
    ]
    guard = sg.guard(model, optimizer)
    before = copy.deepcopy(model.state_dict())
    for step in range(3):
        optimizer.zero_grad()
        losses = model(images, targets)
        loss = sum(losses.values())
        (loss * float("inf") if step == 1 else loss).backward()
        optimizer.step()
    assert guard.counts.steps == 3
    assert guard.counts.skipped == 1
    assert all(torch.isfinite(param).all() for param in model.parameters())
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
