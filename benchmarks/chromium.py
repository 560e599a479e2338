"""A headless Chromium that keeps to itself: a fresh profile, and nothing asked of the network on its own account."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--window-size=1400,900",
)  # fmt: skip


def missing() -> str:
    """What is missing here; empty where a page can be opened."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if find_spec("selenium") is None:
        absent.append("selenium")
    return f"needs {' and '.join(absent)}" if absent else ""


@contextmanager
def chromium() -> Iterator[Any]:
    """Start it, and end it.

    Yields:
        A selenium driver that logs the console and every request.
    """
    from selenium import webdriver  # noqa: PLC0415 - optional

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
        try:
            yield driver
        finally:
            driver.quit()
