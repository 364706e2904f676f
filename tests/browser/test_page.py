"""The page in a real browser: what people see, that it is quiet, and that it calls nowhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{constructor}}"


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
