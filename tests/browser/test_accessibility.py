"""Every tab, light and dark, wide and on a phone: axe-core finds nothing grave, and nothing runs off the side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_server import TABS
from playwright.sync_api import Browser, Page, expect

AXE = Path(__file__).parent / "axe" / "axe.min.js"
WIDE, PHONE = 1200, 360
FOUND = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter(one => ['serious', 'critical'].includes(one.impact))
  .map(one => one.id + ': ' + one.nodes.map(node => node.target + ' ' + node.html + ' ' + node.any.map(x => x.message))
  .join(' | '))"""
# A filled form, a comparison, builds that run, wait, failed and are over; with what shows that it opened.
FILLED = {
    "repo=microsoft/Phi-3.5-tiny-instruct": "Variants: 1.",
    "compare=microsoft/Phi-4-mini": "BF16, as it is",
    "build=aaaaaaaa": "line 59",
    "build=bbbbbbbb": "In the queue",
    "build=cccccccc": "line 59",
    "build=dddddddd": "line 59",
}
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def grave(page: Page) -> list[str]:
    """What axe-core calls serious or critical on the page as it stands."""
    page.add_script_tag(path=AXE)
    return list(page.evaluate(FOUND))


def opened(browser: Browser, address: str, *, width: int = WIDE, **context: Any) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, **context)
    page.goto(address)
    page.get_by_role("tab", selected=True).wait_for()
    page.wait_for_timeout(1500)  # what the page loads by itself
    return page


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_a_tab_has_no_grave_barrier(browser: Browser, local_page: str, tab: str, theme: str, width: int) -> None:
    page = opened(browser, f"{local_page}/?tab={tab}&__theme={theme}", width=width)
    try:
        assert grave(page) == []
        assert page.evaluate(SIDEWAYS) <= 0
    finally:
        page.close()


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", FILLED)
def test_what_an_address_opens_has_no_grave_barrier(
    browser: Browser, local_page: str, address: str, theme: str, width: int
) -> None:
    page = opened(browser, f"{local_page}/?{address}&__theme={theme}", width=width)
    try:
        expect(page.get_by_text(FILLED[address]).first).to_be_visible()
        assert grave(page) == []
        assert page.evaluate(SIDEWAYS) <= 0
    finally:
        page.close()


def test_a_barrier_would_be_found(browser: Browser, local_page: str) -> None:
    page = opened(browser, local_page)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<button></button><input type=text>')")
    assert {found.split(":")[0] for found in grave(page)} == {"button-name", "label"}
    page.close()


def test_hebrew_reads_from_right_to_left(browser: Browser, local_page: str) -> None:
    page = opened(browser, local_page, locale="he-IL")
    assert page.evaluate("[document.documentElement.dir, document.documentElement.lang]") == ["rtl", "he"]
    expect(page.get_by_role("tab", name="המרות")).to_be_visible()
    expect(page.get_by_text("עוקב אחר microsoft")).to_be_visible()
    assert grave(page) == []
    page.close()


def test_the_page_can_be_used_without_a_mouse(browser: Browser, local_page: str) -> None:
    page = opened(browser, local_page)
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    seen = [page.evaluate(f"(document.activeElement.innerText || document.activeElement.ariaLabel) + {outline}")]
    assert seen[0].endswith("solid")
    page.close()
