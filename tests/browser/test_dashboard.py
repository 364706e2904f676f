"""The dashboard in a real browser: found, filtered, paged, and readable on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{constructor}}"


@pytest.fixture
def releases(page: Page, local_page: str) -> Page:
    page.goto(f"{local_page}/?tab=releases")
    expect(page.get_by_text("Phi-4-mini").first).to_be_visible()
    return page


def choose(page: Page, name: str, choice: str) -> None:
    page.get_by_label(name, exact=True).click()
    page.get_by_role("option", name=choice, exact=True).click()
    expect(page.get_by_role("option")).to_have_count(0)


def test_every_variant_says_where_it_stands(releases: Page) -> None:
    expect(releases.get_by_text("int4 v1.0 · KL 0.0100")).to_be_visible()
    expect(releases.get_by_text("fp32 not for this model")).to_be_visible()
    expect(releases.get_by_text("It is for models without LongRoPE.")).to_be_visible()
    expect(releases.get_by_text("1 to 10 of 26 releases")).to_be_visible()


def test_hostile_words_are_shown_as_words(releases: Page) -> None:
    expect(releases.get_by_text(f"int8: {EVIL}")).to_be_visible()
    assert releases.locator("img[src=x]").count() == 0


def test_a_failed_variant_leads_to_its_build(releases: Page) -> None:
    failed = releases.get_by_role("link", name="q4_0 failed")
    expect(failed).to_have_attribute("href", f"?build={'c' * 32}-1")
    expect(failed).not_to_have_attribute("target", "_blank")


def test_filters_and_words_find_what_was_asked_for(releases: Page) -> None:
    choose(releases, "State", "failed")
    expect(releases.get_by_text("1 to 1 of 1 releases")).to_be_visible()
    choose(releases, "Backend", "mlx")
    expect(releases.get_by_text("Nothing matches.")).to_be_visible()
    choose(releases, "State", "any")
    choose(releases, "Backend", "any")
    releases.get_by_label("Search").press_sequentially("old-17")
    expect(releases.get_by_text("1 to 1 of 1 releases")).to_be_visible()


def test_pages_are_turned_from_the_keyboard(releases: Page) -> None:
    expect(releases.get_by_role("button", name="Previous")).to_be_disabled()
    releases.get_by_role("button", name="Next").press("Enter")
    expect(releases.get_by_text("11 to 20 of 26 releases")).to_be_visible()
    releases.get_by_role("button", name="Next").press("Enter")
    expect(releases.get_by_text("21 to 26 of 26 releases")).to_be_visible()
    expect(releases.get_by_role("button", name="Next")).to_be_disabled()
    releases.get_by_label("Search").press_sequentially("Phi")
    expect(releases.get_by_text("1 to 10 of 26 releases")).to_be_visible()
    expect(releases.get_by_label("Page", exact=True)).to_have_value("1")


def test_a_phone_shows_the_table_without_scrolling_the_page_sideways(releases: Page) -> None:
    releases.set_viewport_size({"width": 360, "height": 740})
    expect(releases.get_by_text("int4 v1.0 · KL 0.0100")).to_be_visible()
    releases.wait_for_function("document.documentElement.scrollWidth <= 360")


def test_the_page_says_where_its_feed_is(releases: Page) -> None:
    feed = releases.locator("link[rel=alternate][type='application/atom+xml']")
    assert feed.get_attribute("href") == "feed.xml"
