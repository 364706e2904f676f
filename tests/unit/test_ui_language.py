"""The page's words in its languages."""

from __future__ import annotations

import string

import pytest

from bot.ui.language import LANGUAGES, label, preferred, say, texts


@pytest.mark.parametrize("key", texts())
def test_a_text_is_there_in_every_language_with_the_same_values(key: str) -> None:
    spelled = texts()[key]
    assert sorted(spelled) == sorted(LANGUAGES)
    values = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in spelled.values()]
    assert all(found == values[0] for found in values)
    assert all(text.strip() for text in spelled.values())


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("", "en"),
        ("nl-BE,nl;q=0.9,en;q=0.8", "nl"),
        ("fr,he;q=0.5", "he"),
        ("en;q=0.1,ja;q=0.9", "ja"),
        ("xx;q=oops,,th", "th"),
        ("fr", "en"),
    ],
)
def test_a_visitor_is_spoken_to_in_the_language_their_browser_asks_for(asked: str, given: str) -> None:
    assert preferred(asked) == given


def test_a_language_the_page_does_not_speak_is_english() -> None:
    assert say("fr", "page.tab_convert") == "Convert"


def test_a_label_that_is_no_text_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        label("page.nothing")
