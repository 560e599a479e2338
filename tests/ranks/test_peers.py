"""Whose process is gone, and whose only doesn't answer."""

from __future__ import annotations

import os
import subprocess
import sys

from steadygrad.ranks.peers import has_ended


def test_a_process_has_ended_before_its_parent_has_asked():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not has_ended(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet asked for
    assert has_ended(child.pid)
    child.communicate()
    assert has_ended(child.pid)
    assert not has_ended(os.getpid())
