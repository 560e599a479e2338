"""What a person can type or meet occurs in the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from steadygrad import policies
from steadygrad.catalog import CATALOG
from steadygrad.cli.program import SUBCOMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
POLICIES = [name for name in policies.__all__ if name.islower() and callable(getattr(policies, name))]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommand_is_in_the_readme(name):
    assert f"steadygrad {name}" in README


@pytest.mark.parametrize("name", POLICIES)
def test_policy_is_in_the_readme(name):
    assert f"`{name}(" in README


@pytest.mark.parametrize("kind", CATALOG)
def test_finding_is_in_the_readme(kind):
    assert f"| `{kind}` |" in README


def test_readme_promises_no_policy_that_doesnt_exist():
    promised = set(re.findall(r"^\| `(\w+)\(.*?\)` \| ", README, flags=re.MULTILINE))
    assert promised <= set(POLICIES)


def test_readme_promises_no_finding_that_doesnt_exist():
    table = README.partition("## Findings")[2].partition("## Run files")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(CATALOG)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
