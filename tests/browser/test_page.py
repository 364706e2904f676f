"""The page in a real browser: what people see, that it is quiet, and that it calls nowhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
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
EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{constructor}}"
PATIENCE = 120.0  # seconds; only a hang takes so long

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium (Debian: apt-get install chromium)"),
]


def _serve(environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])
    command = [sys.executable, str(HERE / "page_server.py"), str(port)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, **environment}) as process:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def local_page() -> Iterator[str]:
    """The page as whoever runs phimill sees it."""
    yield from _serve({})


@pytest.fixture(scope="module")
def public_page() -> Iterator[str]:
    """The page as a Space shows it to strangers."""
    yield from _serve({"SPACE_ID": "phimill/phimill"})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda r: trouble.append(r.url) if not r.url.startswith(("http://127.0.0.1:", "data:", "blob:")) else None,
    )
    yield page
    page.close()
    assert trouble == []


def test_the_list_of_builds_is_shown(page: Page, local_page: str) -> None:
    page.goto(local_page)
    expect(page.locator("tr[data-build]")).to_have_count(5)
    running = page.locator("tr[data-build]").first
    expect(running).to_contain_text("running")
    expect(running).to_contain_text("25 % · 300 MB of 1.2 GB · 75 s left")
    expect(page).to_have_title("phimill")


def test_a_picked_build_shows_its_results_and_its_log(page: Page, local_page: str) -> None:
    page.goto(local_page)
    page.locator("tr[data-build]").nth(3).click()
    expect(page.get_by_text("phimill/Phi-3.5-tiny-instruct-GGUF@v1.0")).to_be_visible()
    page.locator(".log").scroll_into_view_if_needed()
    expect(page.get_by_text("line 59")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Cancel this build")).to_be_hidden()


def test_a_build_can_be_picked_and_cancelled_from_the_keyboard(page: Page, local_page: str) -> None:
    page.goto(local_page)
    page.get_by_role("button", name="bbbbbbbb").press("Enter")
    page.get_by_role("button", name="Cancel this build").press("Enter")
    expect(page.locator("tr[data-build]").nth(1)).to_contain_text("cancelled")
    page.get_by_role("button", name="Try this build again").press("Enter")
    expect(page.locator("tr[data-build]").nth(1)).to_contain_text("waiting")


def test_hostile_words_are_shown_as_words(page: Page, local_page: str) -> None:
    page.goto(local_page)
    expect(page.locator("tr[data-build]").last).to_contain_text(f"microsoft/{EVIL}")
    page.locator("tr[data-build]").nth(2).click()
    expect(page.locator(".facts .note")).to_contain_text(EVIL)
    expect(page.locator(".log")).to_contain_text(f"line 1 {EVIL}")
    assert page.locator("img[src=x]").count() == 0


def test_releases_show_where_each_variant_stands(page: Page, local_page: str) -> None:
    page.goto(local_page)
    page.get_by_role("tab", name="Releases").click()
    expect(page.get_by_text("int4 v1.0")).to_be_visible()
    expect(page.get_by_text("int8: refused")).to_be_visible()


def test_the_form_shows_the_verdict_and_queues_a_build(page: Page, local_page: str) -> None:
    page.goto(local_page)
    page.get_by_role("tab", name="Convert").click()
    page.get_by_label("Model repo on the Hub").fill("microsoft/Phi-4-mini-instruct")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("yes, with a caveat")).to_be_visible()
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(page.get_by_text("is in the queue")).to_be_visible()


def test_three_questions_have_one_answer_with_the_way_to_get_it(page: Page, local_page: str) -> None:
    page.goto(local_page)
    page.get_by_role("tab", name="Which one is for me?").click()
    page.get_by_label("Model to run").fill("microsoft/Phi-4-mini-instruct")
    page.get_by_label("With this much memory").fill("a lot")
    page.get_by_role("button", name="Which one?").click()
    expect(page.get_by_text("is no amount of memory")).to_be_visible()
    page.get_by_label("With this much memory").fill("8GB")
    page.get_by_role("button", name="Which one?").click()
    expect(page.get_by_text("It is the nearest.")).to_be_visible()
    expect(page.get_by_text("pip install it")).to_be_visible()


def test_strangers_may_look_and_check_and_nothing_else(page: Page, public_page: str) -> None:
    page.goto(public_page)
    page.locator("tr[data-build]").first.click()
    expect(page.locator(".facts")).to_be_visible()
    page.get_by_role("tab", name="Convert").click()
    expect(page.get_by_text("This page has no sign-in")).to_be_visible()
    for name in ("Convert", "Cancel this build", "Try this build again"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_hidden()


def test_strangers_find_no_way_in_behind_the_page(public_page: str) -> None:
    from gradio_client import Client

    with pytest.raises(ValueError, match=r"[Cc]annot|not"):
        Client(public_page, verbose=False, analytics_enabled=False).predict(
            "microsoft/Phi-4", [], "", api_name="/_convert"
        )
