"""One build: its own address, where it stands, how it is ended, and what it leaves to be used."""

from __future__ import annotations

from browsing import serving, watched
from page_server import EVIL
from playwright.sync_api import Browser, Page, expect
from ports import free_port


def test_a_build_is_opened_from_the_list_and_has_an_address(page: Page, local_page: str) -> None:
    page.goto(local_page)
    page.get_by_role("link", name="aaaaaaaa").press("Enter")
    expect(page.get_by_role("heading", name="microsoft/Phi-3.5-tiny-instruct@0123456")).to_be_visible()
    assert page.url.endswith("?build=aaaaaaaa")
    expect(page.get_by_text("25 % · 300 MB of 1.2 GB · 75 s left · 2.5 GB of memory held now")).to_be_visible()
    stages = page.locator(".facts tbody tr")
    expect(stages.nth(0)).to_contain_text("gguf/fp16to measure the others against")
    expect(stages.nth(1)).to_contain_text("gguf/int4donenowto cometo come")
    expect(page.get_by_text("Converters run in a sandbox")).to_be_visible()
    page.get_by_role("link", name="All builds").click()
    expect(page.locator("tr[data-build]")).to_have_count(5)


def test_its_log_is_at_the_newest_line(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?build=aaaaaaaa")
    page.locator(".log").scroll_into_view_if_needed()
    expect(page.get_by_text("line 59")).to_be_in_viewport()


def test_it_is_cancelled_and_tried_again_from_the_keyboard(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?build=bbbbbbbb")
    page.get_by_role("button", name="Cancel this build").press("Enter")
    expect(page.locator(".facts .chip.cancelled")).to_be_visible()
    page.get_by_role("button", name="Try this build again").press("Enter")
    expect(page.locator(".facts .chip.waiting")).to_be_visible()
    expect(page.get_by_text("number 1 in the queue")).to_be_visible()


def test_what_it_made_can_be_copied(browser: Browser, local_page: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{local_page}/?build=dddddddd")
    expect(page.get_by_text("phimill/Phi-3.5-tiny-instruct-GGUF@v1.0")).to_be_visible()
    expect(page.get_by_role("link", name="Compare size")).to_have_attribute(
        "href", "?compare=microsoft%2FPhi-3.5-tiny-instruct"
    )
    page.get_by_role("button", name="Copy: Shell").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "get it\nrun it"
    context.close()


def test_hostile_words_are_shown_as_words(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?build=cccccccc")
    expect(page.locator(".facts .note")).to_contain_text(EVIL)
    expect(page.locator(".log")).to_contain_text(f"line 1 {EVIL}")
    assert page.locator("img[src=x]").count() == 0


def test_a_build_that_is_not_there_is_said_in_words(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?build=zzzz")
    expect(page.get_by_text("is not a build")).to_be_visible()


def test_it_comes_back_after_a_reload_and_after_a_restart_of_the_server(browser: Browser) -> None:
    trouble: list[str] = []  # a server that goes away is heard of: not looked at
    port = free_port()
    page = watched(browser.new_page(), trouble)
    heading = page.get_by_role("heading", name="microsoft/Phi-3.5-tiny-instruct@0123456")
    with serving({}, port) as url:
        page.goto(f"{url}/?build=aaaaaaaa")
        expect(heading).to_be_visible()
        page.reload()
        expect(heading).to_be_visible()
    page.evaluate("window.before = true")
    expect(page.get_by_text("Connection to the server was lost")).to_be_visible()
    with serving({}, port):
        page.wait_for_function("!window.before")
        expect(heading).to_be_visible()
    page.close()
