"""A policy written on the command line: ``clip_norm(1.0)``, read without importing torch.

Policies import torch, and torch must not be imported before the script imports it. So the text is
taken apart now, and the policy is made when torch is there.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from steadygrad.errors import UsageError

POLICIES = (
    "adagc",
    "agc",
    "auto",
    "autoclip",
    "chain",
    "clip_norm",
    "clip_value",
    "relative_update",
    "steady",
    "zclip",
)


@dataclass(frozen=True, slots=True)
class PolicyCall:
    """The call that makes a policy.

    Attributes:
        name: function in `steadygrad.policies`.
        args: positional arguments, literals or further calls.
        kwargs: keyword arguments.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def make(self, policies: object) -> Any:
        """Call it.

        Args:
            policies: the module `steadygrad.policies`.

        Raises:
            UsageError: it doesn't take these arguments.
        """
        args = [one.make(policies) if isinstance(one, PolicyCall) else one for one in self.args]
        kwargs = {
            name: one.make(policies) if isinstance(one, PolicyCall) else one
            for name, one in self.kwargs.items()
        }
        try:
            return getattr(policies, self.name)(*args, **kwargs)
        except TypeError as error:
            raise UsageError(f"--policy: {error}. For example: --policy 'clip_norm(1.0)'.") from None


def parse_policy(text: str) -> PolicyCall:
    """Read ``auto``, ``clip_norm(1.0)`` or ``chain(agc(), clip_norm(1.0))``.

    Args:
        text: as it was typed.

    Raises:
        UsageError: it is no such call.

    Example:
        >>> parse_policy("clip_norm(max_norm=1.0)").kwargs
        {'max_norm': 1.0}
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise UsageError(
            f"--policy {text!r}: expected a call such as 'clip_norm(1.0)'. Quote it for the shell."
        ) from None
    found = _read(tree, text)
    if not isinstance(found, PolicyCall):
        raise UsageError(f"--policy {text!r}: expected a policy such as 'clip_norm(1.0)', got a value.")
    return found


def _read(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return PolicyCall(_known(node.id), (), {})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        args = tuple(_read(one, text) for one in node.args)
        kwargs = {one.arg: _read(one.value, text) for one in node.keywords if one.arg is not None}
        return PolicyCall(_known(node.func.id), args, kwargs)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UsageError(
            f"--policy {text!r}: {ast.unparse(node)!r} is neither a number nor a policy. For example: "
            "--policy 'clip_norm(1.0)'."
        ) from None


def _known(name: str) -> str:
    if name in POLICIES:
        return name
    near = get_close_matches(name, POLICIES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(POLICIES)}."
    raise UsageError(f"--policy: there is no policy {name!r}; {hint}")
