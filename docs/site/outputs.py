"""What each reproduction prints, beside it, for its page: ``python docs/site/outputs.py``."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "reproductions"


def main() -> None:
    """Run them all, in this process."""
    os.environ["STEADYGRAD_QUIET"] = "1"
    for script in sorted(FOLDER.glob("*.py")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(script))
        # Where this folder lies is nobody's business.
        script.with_suffix(".out").write_text(printed.getvalue().replace(f"{FOLDER}/", ""), encoding="utf-8")


if __name__ == "__main__":
    main()
