"""What browser tests share: the browser, the page's servers, and an eye on what a page complains about."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page
from ports import free_port

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
PATIENCE = 600.0  # seconds; only a hang takes so long, however busy the machine


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
