"""State of every random generator in plain containers, so that ``torch.load(weights_only=True)`` reads it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steadygrad.calling import random_states, restore_random_states


def read_random_states() -> dict[str, Any]:
    """The generators of torch (on the host and on accelerators), numpy and Python.

    Example:
        >>> state = read_random_states()
        >>> first = random.random()
        >>> restore(state)
        >>> random.random() == first
        True
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - the user's
    version, internal, gauss_next = random.getstate()
    return {
        "torch": random_states(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": [version, torch.tensor(internal), gauss_next],
    }


def restore(states: Mapping[str, Any]) -> None:
    """Put back what `read_random_states` returned."""
    restore_random_states(states["torch"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))
