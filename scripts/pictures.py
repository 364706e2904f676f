"""Photograph every page of a running phimill: `python scripts/pictures.py http://127.0.0.1:7860 docs/images/pages`.

Light, dark, on a phone, and in Hebrew. `phimill demo` is what the pictures in docs/ show.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SOURCE = "microsoft/Phi-3.5-tiny-instruct"
PAGES = {
    "builds": "?tab=builds",
    "build": None,  # the newest one of the list
    "releases": "?tab=releases",
    "compare": f"?compare={SOURCE}",
    "convert": f"?repo={SOURCE}",
    "advice": "?tab=advice",
    "programs": "?tab=programs",
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}},
    "hebrew": {"viewport": {"width": 1200, "height": 900}, "locale": "he-IL"},
}
SETTLED_MS = 6000  # what a page asks for when it opens has come by then


def main(address: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for look, options in LOOKS.items():
            _photograph(browser, address, folder, look, options)
        browser.close()


def _photograph(browser: Browser, address: str, folder: Path, look: str, options: dict[str, Any]) -> None:
    for name, where in PAGES.items():
        page = browser.new_page(**options)
        page.goto(f"{address}/{where or '?tab=builds'}")
        page.wait_for_timeout(SETTLED_MS)
        if where is None:
            page.locator("tr[data-build] a").first.click()
            page.wait_for_timeout(SETTLED_MS)
        if name == "advice":
            _ask(page)
        page.screenshot(path=folder / f"{name}-{look}.png")
        page.close()


def _ask(page: Page) -> None:
    page.locator("input[type=text], textarea").locator("visible=true").first.fill(SOURCE)
    page.locator("button.primary").locator("visible=true").first.click()
    page.wait_for_timeout(SETTLED_MS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
