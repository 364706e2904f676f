"""A real browser, and the page of a fake mill in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import CHROMIUM, FLAGS, HERE, PATIENCE, serving, watched
from playwright.sync_api import Browser, Page, expect, sync_playwright


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the browser."""
    there = CHROMIUM.exists()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not there:
                item.add_marker(pytest.mark.skip(reason="needs Chromium (Debian: apt-get install chromium)"))


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


@pytest.fixture
def page(browser: Browser, trouble: list[str]) -> Iterator[Page]:
    page = watched(browser.new_page(viewport={"width": 1200, "height": 900}), trouble)
    yield page
    page.close()
    assert trouble == []
