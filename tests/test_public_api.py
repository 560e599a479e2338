from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import steadygrad

SOURCE = Path(steadygrad.__file__)


def names_promised_to_type_checkers() -> set[str]:
    """What the `if TYPE_CHECKING:` block imports."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter that ran `code`."""
    report = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_all_is_sorted_and_without_doubles():
    assert steadygrad.__all__ == sorted(set(steadygrad.__all__))


def test_all_equals_what_type_checkers_see():
    assert set(steadygrad.__all__) == names_promised_to_type_checkers() | {"__version__"}


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(steadygrad) == steadygrad.__all__


@pytest.mark.parametrize("name", steadygrad.__all__)
def test_every_public_name_loads(name):
    assert getattr(steadygrad, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'steadygrad' has no attribute 'gaurd'"):
        steadygrad.gaurd  # noqa: B018


def test_every_subpackage_has_a_docstring_and_an_all_without_doubles():
    for init in SOURCE.parent.glob("*/__init__.py"):
        tree = ast.parse(init.read_text(encoding="utf-8"))
        lists = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        assert lists, f"{init} has no __all__"
        assert len(lists[0]) == len(set(lists[0])), f"__all__ of {init} names something twice"
        assert ast.get_docstring(tree), f"{init} has no docstring"


def test_import_loads_neither_torch_nor_numpy():
    assert modules_after("import steadygrad").isdisjoint({"torch", "numpy", "rich", "click", "sqlite3"})


def test_reading_a_run_needs_no_torch():
    loaded = modules_after("import steadygrad; steadygrad.open_run; import steadygrad.report")
    assert "torch" not in loaded
    assert "numpy" in loaded


def test_the_probe_sees_torch_where_it_is_loaded():
    assert "torch" in modules_after("import steadygrad; steadygrad.policies")
