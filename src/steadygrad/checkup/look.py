"""One forward and one backward pass, and everything the checks want to know about them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.calling import LossFn, call_model, exchanged, loss_of, mapped, node_behind, tensors_in
from steadygrad.checkup.overheard import Overheard, Softmax, Target
from steadygrad.checkup.size import root_mean_square
from steadygrad.gains import GainProbe, Gains
from steadygrad.measure.fired import WEIGHTED
from steadygrad.preserve import backward_into, leaves_of, preserved

if TYPE_CHECKING:
    from steadygrad.checkup.rehearsal import Rehearsal, Setup

_FED = (*WEIGHTED, nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag)

MOST_KEPT = 65536
"""Elements kept of each layer's input: shares over units need no more."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What the data is where it enters the model.

    Attributes:
        low: smallest number.
        high: largest number.
        alike: whether all rows are the same.
        rows: how many.
    """

    low: float
    high: float
    alike: bool
    rows: int


@dataclass(slots=True)
class Look:
    """What one training step showed.

    Attributes:
        model: the model.
        batch: what it was given.
        loss_fn: as the user gave it.
        optimizer: None where none was given.
        output: what the model returned, detached.
        place: which of its tensors the loss reads.
        single: whether it reads no other.
        output_node: name of the autograd node that made it; "" without one.
        loss: its value.
        connected: whether anything leads from the loss to a tensor that requires a gradient.
        grads: gradient of each parameter by name; None where none came.
        fired: input of each weighted layer but those that the data itself feeds, by name.
        fed: input of each layer that the data feeds, by name: root mean square, lowest, highest.
        data: the same with the numbers of tokens, as rows.
        softmaxes: every softmax of the pass, those of the loss last.
        targets: what losses of torch.nn compared with.
        peaks: largest finite absolute value that a module returned in float16, by name.
        unknown: parameters that the output depends on and the model doesn't list.
        called: names of the modules whose forward ran.
        gains: growth of the gradient.
        copy: what has made the first few steps, once they have been made.
        tried: how they went.
        explained: kinds of finding that would only follow from what was found already.
    """

    model: nn.Module
    batch: object
    loss_fn: LossFn | None
    optimizer: Optimizer | None
    output: Any = None
    place: int = 0
    single: bool = False
    output_node: str = ""
    loss: float = float("nan")
    connected: bool = False
    grads: dict[str, Tensor | None] = field(default_factory=dict)
    fired: dict[str, Tensor] = field(default_factory=dict)
    fed: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    data: dict[str, Fed] = field(default_factory=dict)
    softmaxes: list[Softmax] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    unknown: list[Tensor] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    gains: Gains = field(default_factory=Gains)
    copy: Setup | None = None
    tried: Rehearsal | None = None
    explained: frozenset[str] = frozenset()

    @property
    def output_tensor(self) -> Tensor | None:
        """What the loss reads of the output, where that is one floating tensor; as most losses do."""
        if not self.single:
            return None
        return self.part(self.output)

    def part(self, output: Any) -> Tensor | None:
        """The same of another output."""
        tensors = tensors_in(output)
        one = tensors[self.place] if self.place < len(tensors) else None
        return one if one is not None and one.is_floating_point() else None

    def loss_at(self, output: Tensor) -> Tensor:
        """What the loss would be with this in the place of `output_tensor`."""
        return loss_of(exchanged(self.output, self.place, lambda _: output), self.batch, self.loss_fn)


def look(model: nn.Module, batch: object, loss_fn: LossFn | None, optimizer: Optimizer | None) -> Look:
    """Take one step's look; the model is left as it was."""
    seen = Look(model, batch, loss_fn, optimizer)
    probe, heard = GainProbe(model), Overheard()
    with (
        preserved(model, loss_fn),
        torch.enable_grad(),
        eagerly(),
        _listening(model, seen, heard),
        probe.attached(),
    ):
        with heard:
            output = call_model(model, batch)
            heard.ended(tensors_in(output))
            loss = loss_of(output, batch, loss_fn)
        probe.forward_ended(loss)
        seen.softmaxes, seen.targets = heard.softmaxes, heard.targets
        seen.output = mapped(output, Tensor.detach)
        seen.unknown = _unknown(model, output)
        seen.loss, seen.connected = float(loss.detach()), loss.requires_grad
        if loss.requires_grad:
            backward_into(loss, model.parameters())
        seen.grads = {
            name: None if param.grad is None else _values(param.grad.detach())
            for name, param in model.named_parameters()
        }
        _find_read(seen)
        seen.output_node = _node_of(output, seen.place)
    seen.gains = probe.gains()
    return seen


def _find_read(seen: Look) -> None:
    """Which of the output's tensors the loss reads: found by giving it tensors that nothing made."""
    tensors = tensors_in(seen.output)
    if isinstance(seen.output, Tensor) or seen.loss_fn is None:
        seen.single = isinstance(seen.output, Tensor)
        return
    leaves = [one.clone().requires_grad_(one.is_floating_point()) for one in tensors]
    ahead = iter(leaves)
    # A loss function that asks for what only the model's own output has is asked no further.
    with contextlib.suppress(Exception):
        loss = loss_of(mapped(seen.output, lambda _: next(ahead)), seen.batch, seen.loss_fn)
        wanted = [one for one in leaves if one.is_floating_point()]
        grads: tuple[Tensor | None, ...] = torch.autograd.grad(loss, wanted, allow_unused=True)
        read = [one for one, grad in zip(wanted, grads, strict=True) if grad is not None]
        if len(read) == 1:
            seen.place, seen.single = [id(one) for one in leaves].index(id(read[0])), True


def loss_again(model: nn.Module, batch: object, loss_fn: LossFn | None) -> float:
    """The loss of one more forward pass from the same random state."""
    with preserved(model, loss_fn), torch.no_grad(), eagerly():
        return float(loss_of(call_model(model, batch), batch, loss_fn))


def eagerly() -> contextlib.AbstractContextManager[Any]:
    """Run compiled parts eagerly: their modules' hooks would not be called."""
    stance: contextlib.AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextlib.contextmanager
def _listening(model: nn.Module, seen: Look, heard: Overheard) -> Iterator[None]:
    def entered(module: nn.Module, args: tuple[Any, ...], name: str) -> None:
        again = name in seen.called
        seen.called.add(name)
        tensors = tensors_in(args)
        given = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
        heard.entered(name, module, given)
        first = given if given is not None else next(iter(tensors), None)
        if again or first is None or not isinstance(module, _FED):
            return
        if not first.requires_grad:
            _feed(seen, name, module, first.detach())
        elif isinstance(module, WEIGHTED):  # whatever the activation before was, module or function
            seen.fired[name] = _units(module, first.detach())

    def left(output: Any, name: str) -> None:
        heard.left()
        for tensor in tensors_in(output):
            if tensor.dtype == torch.float16 and tensor.numel():
                seen.peaks[name] = max(seen.peaks.get(name, 0.0), float(tensor.detach().abs().max()))

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(
                lambda module, args, name=name: entered(module, args, name)
            )
            after = module.register_forward_hook(lambda _, __, output, name=name: left(output, name))
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


def _feed(seen: Look, name: str, module: nn.Module, data: Tensor) -> None:
    """Write down what the data is where it enters a layer."""
    if not isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        seen.fed[name] = _range(data)
    if data.numel() and plain(data):
        # A recurrent module that isn't told otherwise has its rows second.
        second = isinstance(module, nn.RNNBase) and not module.batch_first and data.dim() == 3
        seen.data[name] = fed(data.movedim(1, 0) if second else data)


def plain(tensor: Tensor) -> bool:
    """Whether numbers can be compared one by one: not those of sparse, nested or complex tensors."""
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_complex()


def fed(rows: Tensor) -> Fed:
    """What there is to know of data ``[N, ...]``."""
    alike = rows.dim() > 0 and bool((rows == rows[:1]).all())
    return Fed(float(rows.min()), float(rows.max()), alike, len(rows) if rows.dim() else 1)


def _range(values: Tensor) -> tuple[float, float, float]:
    if not values.numel() or not bool(torch.isfinite(values).all()):
        return float("nan"), float("nan"), float("nan")
    return root_mean_square(values), float(values.min()), float(values.max())


def _units(module: nn.Module, values: Tensor) -> Tensor:
    """Input of a layer as ``[samples, units]``; channels are a convolution's units."""
    spatial = values.dim() - (getattr(module, "weight", values).dim() - 2)
    channels_last = values if isinstance(module, nn.Linear) else values.movedim(spatial - 1, -1)
    flat = channels_last.reshape(-1, channels_last.shape[-1])
    most = max(2, MOST_KEPT // max(1, flat.shape[1]))
    # Rows from all over: the first ones may be one picture, or padding.
    return flat[:: max(1, -(-len(flat) // most))].float().clone()


def _values(grad: Tensor) -> Tensor:
    """A copy of what a gradient holds; of a sparse one, what isn't left out."""
    return grad.coalesce().values() if grad.is_sparse else grad.clone()


def _unknown(model: nn.Module, output: Any) -> list[Tensor]:
    known = {id(param) for param in model.parameters()}
    leaves = leaves_of(tensors_in(output))
    return [leaf for leaf in leaves if isinstance(leaf, nn.Parameter) and id(leaf) not in known]


def _node_of(output: Any, place: int) -> str:
    tensors = tensors_in(output)
    node = node_behind(tensors[place].grad_fn) if tensors else None
    return "" if node is None else node.name()
