from __future__ import annotations

import pytest

from steadygrad.launch import corrected_command


@pytest.mark.parametrize(
    ("words", "options", "meant"),
    [
        (
            "torchrun --nproc-per-node 8 train.py --lr 1",
            "",
            "torchrun --nproc-per-node 8 -m {} train.py --lr 1",
        ),
        ("torchrun -m pkg.train --lr 1", "--guard", "torchrun -m {} --guard -m pkg.train --lr 1"),
        ("/opt/bin/torchrun train.py", "-q", "/opt/bin/torchrun -m {} -q train.py"),
        (
            "-m torch.distributed.run --nproc-per-node 2 train.py -m x",
            "",
            "python -m torch.distributed.run --nproc-per-node 2 -m {} train.py -m x",
        ),
        (
            "accelerate launch --num_processes 2 train.py",
            "",
            "accelerate launch --num_processes 2 -m {} train.py",
        ),
        ("deepspeed train.py --deepspeed", "", "deepspeed --module {} train.py --deepspeed"),
        ("python -u train.py", "--guard", "python -u -m {} --guard train.py"),
        ("python3.12 train.py", "", "python3.12 -m {} train.py"),
        (
            "python -u -m torch.distributed.run --nproc-per-node 2 train.py -m x",
            "--guard",
            "python -u -m torch.distributed.run --nproc-per-node 2 -m {} --guard train.py -m x",
        ),
        (
            "python train.py -m accelerate.commands.launch",
            "",
            "python -m {} train.py -m accelerate.commands.launch",
        ),
        ("torchrun --nproc-per-node 8", "", "torchrun --nproc-per-node 8 -m {} train.py ..."),
    ],
)
def test_steadygrad_goes_inside(words, options, meant):
    assert corrected_command(words.split(), options.split()) == meant.format("steadygrad run")


@pytest.mark.parametrize(
    "words", ["", "train.py torchrun", "-m pkg.train", "-m", "torch_run.py", "yolo train"]
)
def test_what_starts_no_processes_is_left_alone(words):
    assert corrected_command(words.split(), []) is None
