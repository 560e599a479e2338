"""Programs that start training processes: steadygrad goes inside them, not around them.

``torchrun`` starts its workers as new interpreters, so whatever runs around it sees nothing. The
answer to ``steadygrad run torchrun ...`` is the command that works.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

# How each takes a module instead of a script.
_MODULE_FLAG = {"torchrun": "-m", "accelerate": "-m", "deepspeed": "--module"}
_LAUNCHER_MODULES = {
    "torch.distributed.run": "torchrun",
    "torch.distributed.launch": "torchrun",
    "accelerate.commands.launch": "accelerate",
    "accelerate.commands.accelerate_cli": "accelerate",
    "deepspeed.launcher.runner": "deepspeed",
}


def corrected_command(words: Sequence[str], options: Sequence[str]) -> str | None:
    """The command that was meant by one around a launcher; None where there is no launcher in it.

    Args:
        words: the script's part of the command line, from ``-m`` or the first word on.
        options: our own options, which move inside.

    Returns:
        The command, quoted for the shell.

    Example:
        >>> corrected_command(["torchrun", "--nproc-per-node", "8", "train.py", "--lr", "1"], ["--guard"])
        'torchrun --nproc-per-node 8 -m steadygrad run --guard train.py --lr 1'
        >>> corrected_command(["python", "-u", "train.py"], [])
        'python -u -m steadygrad run train.py'
    """
    if not words:
        return None
    inside = ["steadygrad", "run", *options]
    if words[0] == "-m":
        launcher = _LAUNCHER_MODULES.get(words[1]) if len(words) > 1 else None
        return None if launcher is None else _within(["python", *words], 3, _MODULE_FLAG[launcher], inside)
    name = Path(words[0]).name
    if name in _MODULE_FLAG:
        return _within(words, 1, _MODULE_FLAG[name], inside)
    if not Path(words[0]).is_file() or Path(words[0]).suffix == "":
        is_python = name.removesuffix(".exe").rstrip("0123456789.") in {"python", "pypy"}
        return _of_python(words, inside) if is_python else None
    return None


def _of_python(words: Sequence[str], inside: Sequence[str]) -> str:
    """``python -m torch.distributed.run ...`` is a launcher too."""
    start = words.index("-m") + 2 if "-m" in words[:-1] else 1
    launcher = _LAUNCHER_MODULES.get(words[start - 1])
    if launcher is None or any(word.endswith(".py") for word in words[:start]):
        return _within(words, 1, "-m", inside)
    return _within(words, start, _MODULE_FLAG[launcher], inside)


def _within(words: Sequence[str], start: int, flag: str, inside: Sequence[str]) -> str:
    """Put ``inside`` before the script; where none can be told, before an ellipsis."""
    for position in range(start, len(words)):
        word = words[position]
        if word in {"-m", "--module"}:
            parts = [*words[:position], flag, *inside, "-m", *words[position + 1 :]]
            return shlex.join(parts)
        if word.endswith(".py") or (position > start and not word.startswith("-") and Path(word).is_file()):
            return shlex.join([*words[:position], flag, *inside, *words[position:]])
    return f"{shlex.join([*words, flag, *inside])} train.py ..."
