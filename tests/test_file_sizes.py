"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import pytest

import steadygrad

ROOT = Path(steadygrad.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
AROUND = Path(__file__).resolve().parents[1]
OTHER_FILES = sorted(
    path for room in ("tests", "benchmarks", "docs", "examples") for path in (AROUND / room).rglob("*.py")
)
MOST_LINES = 400
MOST_MEDIAN_LINES = 180
MOST_FUNCTION_LINES = 50


def line_count(source: str) -> int:
    return len(source.splitlines())


def long_functions(source: str) -> dict[str, int]:
    """Functions longer than allowed, with their lines; the docstring doesn't count."""
    sizes = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if body and (lines := node.end_lineno - body[0].lineno + 1) > MOST_FUNCTION_LINES:
                sizes[node.name] = lines
    return sizes


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_are_small(path):
    source = path.read_text(encoding="utf-8")
    assert line_count(source) <= MOST_LINES
    assert long_functions(source) == {}


def test_files_around_the_package_are_small_too():
    """Tests, benchmarks, examples and what makes the documents; their functions may be long."""
    sizes = {
        str(path.relative_to(AROUND)): line_count(path.read_text(encoding="utf-8")) for path in OTHER_FILES
    }
    assert {path: size for path, size in sizes.items() if size > MOST_LINES} == {}
    assert {"tests", "benchmarks", "docs", "examples"} == {path.split("/")[0] for path in sizes}


def test_median_file_is_small():
    assert median(line_count(path.read_text(encoding="utf-8")) for path in FILES) <= MOST_MEDIAN_LINES


def test_a_long_function_is_seen_and_its_docstring_isnt_counted():
    docstring = '    """' + "word\n" * 60 + '"""\n'
    assert long_functions("def f():\n" + "    pass\n" * 51) == {"f": 51}
    assert long_functions("def f():\n" + docstring + "    pass\n" * 50) == {}
