"""Two moments of an optimizer's step: its gradients are ready, and it has ended.

torch's own step hooks give neither for certain. The pre-hook fires *before* the backward pass when
``step`` is handed a closure (LBFGS, Lightning), so the closure is wrapped. Both hooks fire twice when
a subclass's ``step`` calls ``super().step()``, so only the outermost pair counts. And when a step
raises, the post-hook never fires, so the next step must not mistake itself for a nested one.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

from steadygrad.capture import is_capturing

T = TypeVar("T")
Args = tuple[Any, ...]
Kwargs = dict[str, Any]

# A compiled step must not trace what is not its own.
_untraced: Callable[[Callable[..., Any]], Callable[..., Any]] = torch.compiler.disable


def _seldom_traced(hook: Callable[..., T]) -> Callable[..., T]:
    """The same as `_untraced` for what is called at every step: outside of a compiled step its wrapper isn't entered."""
    untraced = _untraced(hook)

    def called(*args: Any) -> T:
        return untraced(*args) if torch.compiler.is_compiling() else hook(*args)

    return called


# The function torch puts around every `step`, which calls the hooks.
_HOOKED_STEP = Optimizer.profile_hook_step(Optimizer.step).__code__


class StepHooks:
    """Calls back at the two moments of every step of one optimizer until removed.

    Args:
        optimizer: held weakly; its own hook list keeps this object alive.
        on_gradients: called once gradients are complete, with the number of the evaluation in this
            step (0, 1, ... for a closure that is called several times).
        on_stepped: called when the outermost ``step`` returns.
        on_abandoned: called when the last step turns out to have raised: before the next one, or when
            the optimizer is asked for its state.
        on_captured: called instead of all others where a step is captured in a CUDA graph.
        on_begun: called as the outermost ``step`` begins, with the closure it is handed, or None.
        on_evaluating: called before the closure is, with the number of the evaluation.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        on_gradients: Callable[[int], None],
        on_stepped: Callable[[], None],
        on_abandoned: Callable[[], None],
        on_captured: Callable[[], None] = lambda: None,
        on_begun: Callable[[object], None] | None = None,
        on_evaluating: Callable[[int], None] | None = None,
    ) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._on_gradients = on_gradients
        self._on_evaluated = _untraced(on_gradients)
        self._on_stepped = on_stepped
        self._on_abandoned = on_abandoned
        self._on_captured = on_captured
        self._on_begun = on_begun
        self._on_evaluating = None if on_evaluating is None else _untraced(on_evaluating)
        self._depth = 0
        self._leaving = False
        self._handles = [optimizer.register_step_pre_hook(_seldom_traced(self._before))]
        # An optimizer around an optimizer may be no whole one: timm's Lookahead hands its state on.
        if hasattr(optimizer, "_optimizer_state_dict_pre_hooks"):
            self._handles.append(optimizer.register_state_dict_pre_hook(_untraced(self._saving)))
        self._last_handle = optimizer.register_step_post_hook(_seldom_traced(self._after))

    @property
    def under_way(self) -> bool:
        """Whether a step has been announced and is still running."""
        return self._depth > 0 and self._on_stack()

    def remove(self) -> None:
        """Take all hooks off, after the step under way if there is one; a second call does nothing."""
        self.settle()
        if self._on_stack():
            self._leaving = True
            return
        self._take_off()
        self._last_handle.remove()

    def settle(self) -> None:
        """Have a step that raised abandoned now and not only before the next one."""
        if self._depth and not self._on_stack():
            self._depth = 0
            self._on_abandoned()

    def _on_stack(self) -> bool:
        optimizer = self._optimizer()
        if optimizer is None:
            return False
        # Whoever closes or saves may do so from a thread of its own, while the training steps.
        frames = sys._current_frames().values()  # noqa: SLF001 - who else could know?
        return any(steps_under_way(optimizer, frame) for frame in frames)

    def _saving(self, optimizer: Optimizer) -> None:
        del optimizer
        self.settle()

    def _take_off(self) -> None:
        """Take off what can be in the middle of a step, when torch is walking over the post-hooks."""
        for handle in self._handles:
            handle.remove()
        hooks = getattr(self._optimizer(), "_optimizer_step_post_hooks", None)
        # From the walk over an ordered dict only the last entry may be taken: another one would make it
        # raise. Ours then stays, and does nothing.
        if hooks and next(reversed(hooks)) == self._last_handle.id:
            self._last_handle.remove()

    def _before(self, optimizer: Optimizer, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        if self._depth:
            self._depth = steps_under_way(optimizer, sys._getframe())  # noqa: SLF001 - as above
            if self._depth > 1:
                return None
            self._depth = 0
            self._on_abandoned()
        if self._leaving:
            return None
        if is_capturing():
            self._on_captured()
            return None
        self._depth = 1
        # args[0] is the optimizer itself; Accelerate hands None where a closure could be.
        named = callable(kwargs.get("closure"))
        given = kwargs["closure"] if named else args[1] if len(args) > 1 else None
        closure = given if callable(given) else None
        if self._on_begun is not None:
            self._on_begun(closure)
        if closure is None:
            self._on_gradients(0)
            return None
        watched = self._watching(closure)
        if named:
            return args, {**kwargs, "closure": watched}
        return (args[0], watched, *args[2:]), kwargs

    def _watching(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        evaluation = 0

        def watched(*args: Any, **kwargs: Any) -> Any:
            nonlocal evaluation
            if self._on_evaluating is not None:
                self._on_evaluating(evaluation)
            loss = closure(*args, **kwargs)
            self._on_evaluated(evaluation)
            evaluation += 1
            return loss

        return watched

    def _after(self, optimizer: Optimizer, args: Args, kwargs: Kwargs) -> None:
        del optimizer, args, kwargs
        if self._depth:
            self._depth -= 1
            if self._depth == 0:
                self._on_stepped()
        if self._leaving and self._depth == 0:
            self._take_off()


def steps_under_way(optimizer: Optimizer, frame: FrameType | None) -> int:
    """How many calls of this optimizer's ``step`` are on the stack from ``frame`` up, one in the other."""
    count = 0
    while frame is not None:
        code = frame.f_code
        if code.co_name == _HOOKED_STEP.co_name and code.co_filename == _HOOKED_STEP.co_filename:
            count += frame.f_locals["args"][0] is optimizer
        frame = frame.f_back
    return count
