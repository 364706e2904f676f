"""The comparison in a real browser: read with the mouse, from the keyboard, and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{constructor}}"


@pytest.fixture
def compared(page: Page, local_page: str) -> Page:
    page.goto(f"{local_page}/?compare=microsoft/Phi-4-mini")
    expect(page.locator("[data-mark]")).to_have_count(3)
    return page


def test_a_mark_that_is_pointed_at_says_its_figures(compared: Page) -> None:
    expect(compared.locator(".tip.shown")).to_have_count(0)
    compared.locator("[data-mark]").first.hover()
    shown = compared.locator(".tip.shown")
    expect(shown).to_have_count(1)
    for text in ("gguf/int4", "2.0 GB", "0.0200", "93.0 %", "1.020"):
        expect(shown).to_contain_text(text)


def test_marks_are_read_from_the_keyboard(compared: Page) -> None:
    compared.locator("[data-mark]").first.focus()
    expect(compared.locator(".tip.shown")).to_contain_text("gguf/int4")
    compared.keyboard.press("Tab")
    expect(compared.locator(".tip.shown")).to_contain_text("mlx/int4")
    compared.keyboard.press("Escape")
    expect(compared.locator(".tip.shown")).to_have_count(0)


def test_hostile_words_are_shown_as_words(compared: Page) -> None:
    expect(compared.locator(".plot ~ .grid").get_by_text(EVIL)).to_be_visible()
    assert compared.locator("img[src=x]").count() == 0


def test_a_phone_scrolls_the_picture_and_not_the_page(compared: Page) -> None:
    compared.set_viewport_size({"width": 360, "height": 740})
    expect(compared.locator("[data-mark]").first).to_be_visible()
    compared.wait_for_function("document.documentElement.scrollWidth <= 360")


def test_programs_find_this_server_s_own_address(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?tab=programs")
    expect(page.get_by_text(f"{local_page}/gradio_api/mcp/")).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("document.documentElement.scrollWidth <= 360")
