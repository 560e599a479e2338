from __future__ import annotations

import pytest

from steadygrad.cli import main


@pytest.fixture
def call(capfd):
    """Run one command line in this process; returns exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run
