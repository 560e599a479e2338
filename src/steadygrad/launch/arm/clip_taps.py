"""torch's clipping functions, replaced by ones that also tell us the norm on both sides of the clip."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

from steadygrad.integrations.bounds import norm_bound
from steadygrad.launch.arm.session import Session

Function = Callable[..., Any]
# From the call's arguments by name and its result: the norm before, and the bound on the norm after.
_Told = Callable[[Mapping[str, Any], Any], tuple[Any, float | None] | None]


def tap_clips(session: Session) -> None:
    """Have a session told of every clip before anybody has bound torch's functions."""
    for name, told in (("clip_grad_norm_", _by_norm), ("clip_grad_value_", _by_value)):
        replacement = _tapped(session, getattr(clip_grad, name), told)
        for place in (clip_grad, torch.nn.utils):
            setattr(place, name, replacement)
    # `clip_grad_norm_` itself calls this one by another name, which is left alone.
    public = "clip_grads_with_norm_"
    if hasattr(torch.nn.utils, public):
        setattr(torch.nn.utils, public, _tapped(session, getattr(torch.nn.utils, public), _with_norm))


def _tapped(session: Session, original: Function, told: _Told) -> Function:
    names = tuple(inspect.signature(original).parameters)

    @functools.wraps(original)
    def clip(*args: Any, **kwargs: Any) -> Any:
        if not session.active or torch.compiler.is_compiling():
            return original(*args, **kwargs)
        params, args, kwargs = _with_params_kept(args, kwargs)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        bound = norm_bound(given.get("max_norm"), given.get("norm_type", 2.0))
        seats = session.contained("clip capture", session.before_clip, params, bound) or []
        result = original(*args, **kwargs)
        for seat in seats:
            session.contained("clip capture", _tell, seat.after_clip, told(given, result))
        return result

    return clip


def _tell(after_clip: Callable[[Tensor, float | None], None], norms: tuple[Any, float | None] | None) -> None:
    if norms is not None:
        after_clip(*norms)


def _by_norm(given: Mapping[str, Any], norm: Any) -> tuple[Any, float | None]:
    """Another norm than L2 says nothing about what is left of this one."""
    euclidean = float(given.get("norm_type", 2.0)) == 2.0
    return norm, float(given["max_norm"]) if euclidean else None


def _with_norm(given: Mapping[str, Any], result: Any) -> tuple[Any, float | None]:
    del result
    return given["total_norm"], float(given["max_norm"])


def _by_value(given: Mapping[str, Any], result: Any) -> None:
    del given, result


def _with_params_kept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Tensor], Any, Any]:
    """The parameters of a clip call, and its arguments with those not used up."""
    given = args[0] if args else kwargs.get("parameters")
    if isinstance(given, Tensor) or not isinstance(given, Iterable):
        return ([given] if isinstance(given, Tensor) else []), args, kwargs
    params = list(given)
    # torch warns of a generator that is empty, so a generator it must stay. A `filter` is used up too.
    again: Any = params if isinstance(given, Iterator) else given
    if isinstance(given, GeneratorType):
        again = (param for param in params)
    if args:
        return params, (again, *args[1:]), kwargs
    return params, args, {**kwargs, "parameters": again}
