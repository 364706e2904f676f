"""A real browser, and the page of a fake mill in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HERE = Path(__file__).parent
PATIENCE = 120.0  # seconds; only a hang takes so long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the browser."""
    there = CHROMIUM.exists()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not there:
                item.add_marker(pytest.mark.skip(reason="needs Chromium (Debian: apt-get install chromium)"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(environment: dict[str, str], port: int | None = None, program: str = "page_server.py") -> Iterator[str]:
    """One of this folder's servers on a port, for as long as the block lasts. Yields its address."""
    port = port or free_port()
    path = os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])
    command = [sys.executable, str(HERE / program), str(port)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, **environment}) as process:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def local_page() -> Iterator[str]:
    """The page as whoever runs phimill sees it."""
    with serving({}) as url:
        yield url


@pytest.fixture(scope="session")
def public_page() -> Iterator[str]:
    """The page as a Space shows it to strangers."""
    with serving({"SPACE_ID": "phimill/phimill"}) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not longer than a module: an event loop runs in this thread meanwhile, which other tests cannot do with."""
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def trouble() -> list[str]:
    """Whatever a test's page complained about, asked for elsewhere, or was tricked into running."""
    return []


def watched(page: Page, trouble: list[str]) -> Page:
    """The page, with everything noted that should not happen on it."""
    page.set_default_timeout(1000 * PATIENCE)
    page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda r: trouble.append(r.url) if not r.url.startswith(("http://127.0.0.1:", "data:", "blob:")) else None,
    )
    return page


@pytest.fixture
def page(browser: Browser, trouble: list[str]) -> Iterator[Page]:
    page = watched(browser.new_page(viewport={"width": 1200, "height": 900}), trouble)
    yield page
    page.close()
    assert trouble == []
