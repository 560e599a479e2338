"""The pictures of the documentation, each from a real run: ``python docs/site/pictures.py [--into FOLDER] [NAME ...]``.

They are kept in ``docs/pictures``; each has its text alternative beside it, ``NAME.txt``, with the numbers of its run.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import answer_pictures
import course_pictures
import explode_pictures
import nonfinite_pictures
import step_pictures
import unit_pictures
import wiring_pictures
from forms import Drawn

ROOMS = (
    answer_pictures,
    course_pictures,
    explode_pictures,
    nonfinite_pictures,
    step_pictures,
    unit_pictures,
    wiring_pictures,
)
PICTURES = {name: draw for room in ROOMS for name, draw in room.PICTURES.items()}


def main() -> None:
    """Draw those that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a picture; without one, all are drawn")
    parser.add_argument("--into", type=Path, default=Drawn.folder, help="folder for the pictures")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(PICTURES):
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(sorted(PICTURES))}")
    os.environ["STEADYGRAD_QUIET"] = "1"
    Drawn.folder = asked.into
    Drawn.folder.mkdir(parents=True, exist_ok=True)
    for name in asked.names or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
