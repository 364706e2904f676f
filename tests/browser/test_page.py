"""The page in a real browser: what people see, that it is quiet, and that it calls nowhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect


def test_the_list_of_builds_is_shown(page: Page, local_page: str) -> None:
    page.goto(local_page)
    expect(page.locator("tr[data-build]")).to_have_count(5)
    running = page.locator("tr[data-build]").first
    expect(running).to_contain_text("running")
    expect(running).to_contain_text("25 % · 300 MB of 1.2 GB · 75 s left")
    expect(page).to_have_title("phimill")


def test_only_what_somebody_sees_asks_for_news(page: Page, local_page: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    page.goto(f"{local_page}?tab=releases")
    expect(page.get_by_text("microsoft/Phi-old-8")).to_be_visible()
    assert seen_in_five_seconds(page, asked) == 0
    page.get_by_role("tab", name="Builds").click()
    expect(page.locator("tr[data-build]")).to_have_count(5)
    assert seen_in_five_seconds(page, asked) >= 2
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    assert seen_in_five_seconds(page, asked) == 0


def seen_in_five_seconds(page: Page, asked: list[str]) -> int:
    page.wait_for_timeout(1000)  # for what is under way
    before = len(asked)
    page.wait_for_timeout(5000)
    return len(asked) - before


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
    expect(page.locator(".facts h2")).to_be_visible()
    page.get_by_role("tab", name="Convert").click()
    page.locator("[data-repo]").first.click()
    expect(page.get_by_text("This page has no sign-in")).to_be_visible()
    expect(page.locator("input[data-recipe]")).to_have_count(0)
    for name in ("Convert", "Cancel this build", "Try this build again"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_hidden()


def test_strangers_find_no_way_in_behind_the_page(public_page: str) -> None:
    from gradio_client import Client

    with pytest.raises(ValueError, match=r"[Cc]annot|not"):
        Client(public_page, verbose=False, analytics_enabled=False).predict(
            "microsoft/Phi-4", [], "", api_name="/_convert"
        )
