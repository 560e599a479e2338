"""``python -m steadygrad``: the command line, also where the script isn't on the path."""

import os
import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["run"] and not getattr(sys.flags, "safe_path", sys.flags.isolated):
        # Python searches the current folder first, which is the user's: a click.py there is not for us.
        # What the console script has in its place is as good, until the script to run brings its own.
        sys.path[0] = os.path.dirname(sys.executable)  # noqa: PTH120 - pathlib may lie there too

    from steadygrad.cli import main

    main()
