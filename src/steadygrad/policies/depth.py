"""How many layers a change of the weights runs through one after the other, told by names.

Layers in a row compound: each takes what the one before has made of it. What stands side by side doesn't. Of the
experts of a layer a row meets one or a few, beside each other; an adapter adds to what its layer gives.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from steadygrad.records import TensorInfo

# experts.3.w1, local_experts.3.w1, experts.expert_3.wi, expert3.weight; not expert.0.weight: layers in a row
_ONE_EXPERT = re.compile(r"(expert)(?:s\.|_?)\d+(?=[._]|$)", re.IGNORECASE)
# lora_A, lora_embedding_B, loraA, lora.down, adapter_up, adapters.task, parallel_adapter
_ADAPTER = re.compile(r"(?:^|_)(?:lora|adapters?)(?=[A-Z_\d]|$)")
_MOST_PARTS = 4
"""Matrices that one adapter may be made of (two products of two); what has more is a network of that name."""


def layers_in_a_row(tensors: Iterable[TensorInfo], counts: Callable[[TensorInfo], bool]) -> int:
    """Number of tensors that count, without what stands beside another.

    Experts count as one of them. An adapter counts nothing where its layer is trained, and as one, whatever it is
    made of, where that is frozen: then the layer changes through it alone.

    Args:
        tensors: of one optimizer; names that say nothing of experts and adapters count one each.
        counts: which of them are layers.

    Example:
        >>> from steadygrad.records import TensorInfo
        >>> names = ["0.experts.0.w", "0.experts.1.w", "1.weight", "1.lora_A", "1.lora_B", "2.lora_A", "2.lora_B"]
        >>> layers_in_a_row([TensorInfo(name, (4, 4)) for name in names], lambda tensor: True)
        3
    """
    plain, folded, trained = 0, set[str](), set[str]()
    adapters: defaultdict[str, set[str]] = defaultdict(set)
    for tensor in filter(counts, tensors):
        name = _ONE_EXPERT.sub(r"\1", tensor.name)
        owner = _owner(name)
        if owner is not None:
            adapters[owner].add(name)
            continue
        trained.update(_holders(name))
        if name == tensor.name:
            plain += 1
        else:
            folded.add(name)
    sizes = ((len(parts), owner in trained) for owner, parts in adapters.items())
    return plain + len(folded) + sum(parts if parts > _MOST_PARTS else not held for parts, held in sizes)


def is_adapter(name: str) -> bool:
    """Whether a tensor of that name belongs to an adapter.

    Args:
        name: qualified, as in ``model.named_parameters()``.

    Example:
        >>> is_adapter("layers.0.q_proj.lora_B.default.weight"), is_adapter("layers.0.q_proj.weight")
        (True, False)
    """
    return _owner(name) is not None


def _owner(name: str) -> str | None:
    """Path of the layer that an adapter's tensor belongs to; None for other tensors."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if _ADAPTER.search(part)), None)
    return None if first is None else ".".join(parts[:first])


def _holders(name: str) -> tuple[str, str]:
    """The module of a weight, and the one around it: an adapter wraps its layer, or is a part of it."""
    module = name.rpartition(".")[0]
    return module, module.rpartition(".")[0]
