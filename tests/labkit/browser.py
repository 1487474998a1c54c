"""A real browser in the server's namespace of a lab, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from labkit.net import Lab

CHROMIUM = "/usr/bin/chromium"


@contextmanager
def chromium(lab: Lab, directory: Path) -> Iterator[Browser]:
    """A Chromium without a window; its loopback is that of the lab's server.

    Playwright starts a program by its path, so a script in the directory enters the namespace.
    """
    script = directory / "chromium"
    script.write_text(f'#!/bin/sh\nexec {" ".join(lab.server.argv([CHROMIUM]))} "$@"\n')
    script.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(script), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
