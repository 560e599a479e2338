"""``steadygrad run X`` is ``python X``: one probe, started in every way python can start it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

PROBE = """
'''A docstring.'''
from __future__ import annotations
import atexit, inspect, os, pickle, sys, threading, warnings

class Box:
    pass

def names_of(module):
    skip = {"__loader__", "__spec__", "__builtins__", "__cached__"}
    return [(k, v if isinstance(v, str) else type(v).__name__) for k, v in vars(module).items() if k not in skip]

main = sys.modules["__main__"]
atexit.register(lambda: print("first atexit", type(pickle.loads(pickle.dumps(Box()))) is Box))
atexit.register(lambda: print("second atexit", sys.modules["__main__"] is main))
print(sys.argv, sys.path[0], sys.path[1:] == sys.path[1:], len(sys.path))
print(__name__, __file__, __package__, __doc__, __spec__ and (__spec__.name, __spec__.origin))
print(type(__loader__).__name__, getattr(__loader__, "name", None), getattr(__loader__, "path", None))
print(names_of(main))
print(vars(main) is globals(), type(__builtins__).__name__, __builtins__.__name__)
print([name for name in vars(main) if "steadygrad" in name])
print(os.getcwd(), sys.flags.safe_path if hasattr(sys.flags, "safe_path") else None, sys.flags.optimize)
print(sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__)
print(inspect.getsource(Box), inspect.getfile(Box), Box.__module__)
print(sys.stdout.errors, sys.stderr.errors, "numpy" in sys.modules, "torch" in sys.modules)
print(warnings.filters[:1], sys.getrecursionlimit(), threading.active_count())
"""

ENDINGS = {
    "none": "",
    "zero": "sys.exit(0)",
    "exit-none": "sys.exit()",
    "seven": "sys.exit(7)",
    "large": "sys.exit(300)",
    "text": "sys.exit('text')",
    "true": "sys.exit(True)",
    "raise": "def inner():\n    raise ValueError('no')\ninner()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e",
    "group": "raise BaseException('base')",
    "import": "import nothing_of_that_name",
    "own hook": "sys.excepthook = lambda k, e, t: print('hook', k.__name__, t.tb_frame.f_code.co_name)\n1 / 0",
    "os._exit": "sys.stdout.flush(); os._exit(5)",
    "thread": "threading.Timer(0.1, lambda: print('from a thread')).start()",
    "thread raises": "t = threading.Thread(target=lambda: 1 / 0, name='t'); t.start(); t.join()",
    "broken pipe": "raise BrokenPipeError(32, 'gone')",
    "os error": "open('/nowhere/at/all')",
}


def same(outcomes):
    plain, ours = outcomes
    assert ours.out == plain.out
    assert ours.code == plain.code
    assert ours.err == plain.err


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_in_every_way(both, write, ending):
    write("probe.py", PROBE + ENDINGS[ending])
    same(both([], ["probe.py", "a", "--", "-q", "--out=x"]))


@pytest.mark.parametrize("flags", [[], ["-P"], ["-I"], ["-u"], ["-O"], ["-X", "utf8"], ["-W", "ignore"]])
def test_flags_of_python(both, write, flags):
    if flags == ["-P"] and sys.version_info < (3, 11):
        pytest.skip("-P came with Python 3.11")
    write("probe.py", PROBE)
    same(both(flags, ["probe.py"]))


def test_a_far_away_file(both, write, tmp_path):
    write("there/deep/probe.py", PROBE)
    (tmp_path / "here").mkdir()
    same(both([], [str(tmp_path / "there/deep/probe.py"), "a"], cwd=tmp_path / "here"))
    same(both([], ["../there/deep/probe.py", "a"], cwd=tmp_path / "here"))


def test_a_link_to_a_file(both, write, tmp_path):
    write("there/probe.py", PROBE + "import beside")
    write("there/beside.py", "print(__file__)")
    (tmp_path / "link.py").symlink_to(tmp_path / "there" / "probe.py")
    same(both([], ["link.py"]))


@pytest.mark.parametrize("flags", [[], ["-P"]])
def test_a_folder_with_a_main(both, write, flags):
    if flags and sys.version_info < (3, 11):
        pytest.skip("-P came with Python 3.11")
    write("app/__main__.py", PROBE + "import beside\nsys.exit(3)")
    write("app/beside.py", "print(__file__)")
    same(both(flags, ["app", "a"]))


def test_a_zip_with_a_main(both, write, tmp_path):
    write("app/__main__.py", PROBE.replace("print(inspect.getsource(Box), inspect.getfile(Box), ", "print("))
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "app")
    same(both([], ["packed.zip", "a"]))


def test_a_folder_without_a_main(both, tmp_path):
    (tmp_path / "empty").mkdir()
    same(both([], ["empty"]))


@pytest.mark.parametrize("name", ["pkg", "pkg.mod", "pkg.sub"])
@pytest.mark.parametrize("ending", ["none", "seven", "raise", "text"])
def test_a_module(both, write, name, ending):
    write("pkg/__init__.py", "import sys\nprint('package', sys.argv, sys.path[0])")
    for file in ("pkg/__main__.py", "pkg/mod.py", "pkg/sub/__main__.py"):
        write(file, PROBE + ENDINGS[ending])
    write("pkg/sub/__init__.py", "")
    same(both([], ["-m", name, "a", "-m", "b", "--guard"]))


@pytest.mark.parametrize("name", ["nope", "pkg", "pkg.nope", "pkg.nope.deeper", ".relative", "broken.mod"])
def test_a_module_that_isnt_there(both, write, name):
    write("pkg/__init__.py", "")
    write("broken/__init__.py", "import missing_dependency")
    write("broken/mod.py", "")
    same(both([], ["-m", name]))


def test_a_syntax_error(both, write):
    write("broken.py", "x = 1\ndef f(:\n    pass\n")
    same(both([], ["broken.py"]))


def test_another_encoding_and_compiled_code(both, tmp_path):
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\nprint('ü')\n".encode("latin-1"))
    same(both([], ["latin.py"]))
    subprocess.run([sys.executable, "-m", "py_compile", "latin.py"], cwd=tmp_path, check=True)
    compiled = next((tmp_path / "__pycache__").iterdir())
    compiled.rename(tmp_path / "latin.pyc")
    same(both([], ["latin.pyc"]))


def test_stdin_and_streams(both, write):
    write("probe.py", "import sys\nprint(sys.stdin.read().upper())\nprint('\\u2028 é', file=sys.stderr)")
    same(both([], ["probe.py"], input="hello"))
    same(both([], ["probe.py"], input="hello", env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}))


def test_a_module_beside_the_script_wins_over_one_that_we_import(both, write):
    """``click``, ``statistics`` and ``sqlite3`` are imported by us before or after the script's turn."""
    modules = ["click", "statistics", "sqlite3", "logging", "shlex", "difflib", "numpy", "textwrap"]
    for name in modules:
        write(f"{name}.py", f"print('{name} of the script'); mark = 1")
    write("probe.py", "".join(f"import {name}; print({name}.mark, {name}.__file__)\n" for name in modules))
    same(both([], ["probe.py"]))


def test_modules_of_the_script_never_become_ours(both, write):
    """Arming imports sqlite3 and statistics, after the script has put its own in ``sys.modules``."""
    for name in ("sqlite3", "bisect2", "statistics"):
        write(f"{name}.py", "mark = 1")
    write("train.py", "import sqlite3, statistics, sys\n" + TRAINING + "print(sqlite3.mark, statistics.mark)")
    plain, ours = both([], ["train.py"])
    assert (ours.out, ours.code) == (plain.out, plain.code)


TRAINING = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""


def test_a_setting_made_before_torch_is_imported_holds(both, write):
    write(
        "train.py",
        "import os, sys\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "os.environ['OMP_NUM_THREADS'] = '1'\nimport torch\nprint(torch.get_num_threads())\n"
        "print([type(one).__name__ for one in sys.meta_path if 'steadygrad' in type(one).__module__])\n"
        "print(torch.__loader__ is torch.__spec__.loader, vars(torch.__loader__).keys())",
    )
    same(both([], ["train.py"], env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}))


def test_a_traceback_out_of_backward_shows_no_wrapper(both, write):
    write("train.py", TRAINING + "loss = net(torch.ones(2, 3)).sum()\nloss.backward()\nloss.backward()\n")
    same(both([], ["train.py"]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals(write, tmp_path, number):
    write("wait.py", "import sys, time\nprint('up', flush=True)\ntime.sleep(60)\n")
    ended = []
    for middle in ([], ["-m", "steadygrad", "run"]):
        with subprocess.Popen(
            [sys.executable, *middle, "wait.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "up\n"
            time.sleep(0.1)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        ended.append((process.returncode, [x for x in err.splitlines() if not x.startswith("steadygrad:")]))
    assert ended[0] == ended[1]
    assert ended[0][0] == -number


def test_processes_of_the_script(both, write):
    write(
        "pools.py",
        "import multiprocessing, os, sys\n"
        "def square(x):\n    return x * x, __name__ in {'__main__', '__mp_main__'}\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn'):\n"
        "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
        "            print(method, pool.map(square, [1, 2]))\n"
        "    sys.stdout.flush()\n"
        "    if os.fork() == 0:\n"
        "        print('child'); sys.exit(3)\n"
        "    print(os.waitstatus_to_exitcode(os.wait()[1]))\n",
    )
    same(both([], ["pools.py"]))


def test_the_console_script_too(write, tmp_path):
    write("probe.py", "import sys\nprint(sys.argv, sys.path[0], len(sys.path))\nsys.exit(4)")
    plain = subprocess.run(
        [sys.executable, "probe.py", "a"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    code = "import sys; from steadygrad.cli import main; sys.exit(main())"
    write("bin/steadygrad", code)
    ours = subprocess.run(
        [sys.executable, "bin/steadygrad", "run", "probe.py", "a"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ours.stdout, ours.returncode) == (plain.stdout, plain.returncode)
