"""Wrong use of ``steadygrad run``: one line, exit code 2, nothing started."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which script?"),
        ([""], "which script?"),
        (["nothing.py"], "there is no file 'nothing.py'"),
        (["trian.py"], "Did you mean train.py?"),
        (["train"], "Did you mean train.py?"),
        (["-m"], "-m needs the name of a module"),
        (["-"], "a script on stdin can't be run"),
        (["-c", "print(1)"], "there is no -c"),
        (["-u", "train.py"], "python -u -m steadygrad run"),
        (["--policy", "clip_norm(1)", "train.py"], "Add --guard"),
        (["--guard", "--policy", "clip_nrom(1)", "train.py"], "did you mean 'clip_norm'"),
        (["--gaurd", "train.py"], "--gaurd"),
        (["ls"], "is no Python script"),
        (["torchrun", "train.py"], "Run inside them: `torchrun -m steadygrad run train.py`."),
        (["--guard", "--out", "a b", "torchrun", "train.py"], "run --guard --out 'a b' train.py`"),
    ],
)
def test_wrong_use_is_answered_in_one_line(call, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("raise SystemExit('it must not run')\n", encoding="utf-8")
    code, out, err = call("run", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err
