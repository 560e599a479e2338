"""State of every random generator, and the same in containers that ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steadygrad.calling import random_states, restore_random_states


def read_random_states() -> dict[str, Any]:
    """The generators of torch (on the host and on accelerators), numpy and Python, as they give themselves."""
    state = np.random.get_state(legacy=True)  # noqa: NPY002 - the user's own is what has to be kept
    return {"torch": random_states(), "numpy": state, "python": random.getstate()}


def plain(states: Mapping[str, Any]) -> dict[str, Any]:
    """The same as tensors, lists and numbers.

    Example:
        >>> state = plain(read_random_states())
        >>> first = random.random()
        >>> restore(state)
        >>> random.random() == first
        True
    """
    kind, keys, *gauss = states["numpy"]
    version, internal, gauss_next = states["python"]
    return {
        "torch": states["torch"],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *gauss],
        "python": [version, torch.tensor(internal), gauss_next],
    }


def restore(states: Mapping[str, Any]) -> None:
    """Put back what `plain` returned."""
    restore_random_states(states["torch"])
    kind, keys, *gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *gauss))  # noqa: NPY002 - as above
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))
