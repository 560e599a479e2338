from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.report.loopback import is_here


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:5006", "127.8.9.1:1", "[::1]", "[::1]:5006"],
)
def test_names_of_this_machine(host):
    assert is_here(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "runs.example.org",
        "localhost.example.org:5006",
        "127.0.0.1.example.org",
        "example.org#localhost",
        "localhost@example.org",
        "localhost:80@example.org",
        "localhost:x",
        "192.168.0.7:5006",
        "0.0.0.0",
        "[::]",
        "[::1",
        "::1:5006",
        "[::1]x",
        "2130706433",
        "0x7f.1",
        "localhost\x00",
    ],
)
def test_any_other_name_is_somebody_else(host):
    assert not is_here(host)


@given(st.text(max_size=30))
def test_any_text_gets_an_answer(host):
    assert is_here(host) in {True, False}
