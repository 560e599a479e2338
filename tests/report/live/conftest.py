"""A real server on a free port, and a real browser; without one the browser's tests are skipped, with the reason."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys

import pytest

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (shutil.which(CHROMIUM) and shutil.which(DRIVER)):
        pytest.skip(f"no {CHROMIUM} with {DRIVER}")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}", "window-size=1200,1000"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(service=selenium.ChromeService(DRIVER), options=options)
    yield driver
    driver.quit()


@pytest.fixture
def served():
    """Serve a place in a process of its own; gives its port."""
    started = []

    def serve(place):
        command = [sys.executable, "-m", "steadygrad", "live", str(place), "--port", "0"]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        line = started[-1].stderr.readline()
        return int(line.partition("127.0.0.1:")[2].partition("/")[0])

    yield serve
    for process in started:
        process.terminate()
        process.communicate()


@pytest.fixture
def ask():
    """One request with headers of one's own; gives status and body."""

    def request(port, path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, body

    return request
