"""The form: from a few letters to a build, with what it will do shown before."""

from __future__ import annotations

from page_server import EVIL
from playwright.sync_api import Page, expect

PHI = "microsoft/Phi-3.5-tiny-instruct"


def test_a_few_letters_find_releases_first(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?tab=convert")
    expect(page.locator("[data-repo]").first).to_contain_text(PHI)
    expect(page.locator("[data-repo]").first).to_contain_text("release")
    box = page.get_by_label("Which model?")
    box.press_sequentially("ann")
    expect(page.locator("[data-repo]")).to_have_count(1)
    box.press_sequentially("obody")
    expect(page.get_by_text("No Phi has such a name")).to_be_visible()


def test_a_release_is_chosen_ticked_foreseen_and_asked_for(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?tab=convert")
    page.locator("[data-repo]").first.press("Enter")
    expect(page.get_by_role("link", name="Already built from this commit: v1.0")).to_be_visible()
    int4, int8 = (page.locator(f"input[data-recipe='gguf/{name}']") for name in ("int4", "int8"))
    expect(int8).to_be_checked()
    expect(int4).not_to_be_checked()
    expect(page.locator("input[data-recipe='gguf/fp16']")).to_have_count(0)
    expect(page.get_by_text("Variants: 1.")).to_be_visible()
    int4.press("Space")
    expect(page.get_by_text("Variants: 2.")).to_be_visible()
    expect(page.get_by_text("phimill/Phi-3.5-tiny-instruct-GGUF, as v1.0")).to_be_visible()
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(page.get_by_text("In the queue. Watch it here")).to_be_visible()
    expect(page.get_by_role("link", name="gguf · int4, int8")).to_have_attribute("href", "?build=11111111")


def test_what_is_ticked_when_the_button_is_pressed_is_asked_for(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?repo={PHI}")
    expect(page.get_by_text("Variants: 1.")).to_be_visible()
    page.evaluate("""() => {
      const box = name => document.querySelector(`input[data-recipe='gguf/${name}']`);
      for (const name of ['int4', 'int8', 'int4', 'int4']) box(name).click();
    }""")
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(page.get_by_role("link", name="gguf · int4", exact=True)).to_be_visible()
    expect(page.get_by_text("Variants: 1.")).to_be_visible()
    expect(page.locator("input[data-recipe='gguf/int4']")).to_be_checked()
    expect(page.locator(".plan")).to_contain_text("Q4_K_M")


def test_a_verdict_has_an_address_of_its_own(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?repo={PHI}")
    expect(page.get_by_role("heading", name=PHI)).to_be_visible()
    expect(page.get_by_label("Which model?")).to_have_value(PHI)


def test_hostile_names_and_reasons_are_shown_as_words(page: Page, local_page: str) -> None:
    page.goto(f"{local_page}/?tab=convert")
    expect(page.locator("[data-repo]").last).to_contain_text(f"mallory/{EVIL}")
    page.locator("[data-repo]").first.click()
    expect(page.locator(".offer .why")).to_contain_text(EVIL)
    assert page.locator("img[src=x]").count() == 0


def test_whoever_may_not_build_sees_the_verdict_and_no_box(page: Page, public_page: str) -> None:
    page.goto(f"{public_page}/?repo={PHI}")
    expect(page.get_by_text("yes, with a caveat")).to_be_visible()
    expect(page.get_by_text("This page has no sign-in")).to_be_visible()
    expect(page.locator("input[data-recipe]")).to_have_count(0)
    expect(page.get_by_role("button", name="Convert", exact=True)).to_be_hidden()
