"""Front matter: read, judged, and shown without harm."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub import cards
from bot.localhub.errors import BadRequestError
from bot.localhub.rendering import render


def test_front_matter_becomes_plain_json() -> None:
    text = "---\nlicense: mit\ndate: 2026-01-02\nnan: .nan\n3: [x, {y: null}]\n---\nbody\n---\n"
    card = cards.front_matter(text)
    assert card == {"license": "mit", "date": "2026-01-02", "nan": "nan", "3": ["x", {"y": None}]}
    assert cards.split(text)[1] == "body\n---\n"
    json.dumps(card, allow_nan=False)


@pytest.mark.parametrize("text", ["", "# Title", "----\na: 1\n---\n", "x\n---\na: 1\n---\n", "---\na: 1\n"])
def test_a_card_may_have_no_front_matter(text: str) -> None:
    assert cards.front_matter(text) is None
    assert cards.split(text) == (None, text)


@pytest.mark.parametrize("text", ["---\n---\nx", "---\n\n---\nx", "---\n# note\n---\nx"])
def test_empty_front_matter_is_none_at_all(text: str) -> None:
    assert cards.front_matter(text) is None


@pytest.mark.parametrize(
    "header",
    ["a: [", "- a", "text", "a: &x 1\nb: *x", "a: !!python/object/apply:f [x]", "[" * 3000, "a: \0"],
)
def test_broken_front_matter_is_refused(header: str) -> None:
    with pytest.raises(BadRequestError):
        cards.front_matter(f"---\n{header}\n---\n")


def test_windows_line_ends_and_a_byte_order_mark_are_fine() -> None:
    assert cards.front_matter("\ufeff---\r\nlicense: mit\r\n---\r\nx") == {"license": "mit"}


@pytest.mark.parametrize(
    ("card", "count"),
    [
        ({"license": "mit", "tags": ["a"], "base_model": ["a/b", "c"], "x": {"y": 1}}, 0),
        ({"license": 3}, 1),
        ({"tags": "a"}, 1),
        ({"tags": [1]}, 1),
        ({"base_model": ["a/b/c", "../x", 3]}, 3),
        ({"base_model_relation": "child", "pipeline_tag": []}, 2),
    ],
)
def test_each_problem_is_named(card: dict[str, Any], count: int) -> None:
    assert len(cards.problems(card, "model")) == count


def test_a_space_needs_an_sdk() -> None:
    assert cards.problems({}, "space")
    assert not cards.problems({"sdk": "gradio"}, "space")


@given(st.text(max_size=200))
def test_any_text_is_a_card_or_refused(text: str) -> None:
    for candidate in (text, f"---\n{text}\n---\n"):
        with contextlib.suppress(BadRequestError):
            cards.problems(cards.front_matter(candidate) or {}, "model")


@given(st.text(max_size=200) | st.text(alphabet="<>/aimgscript=\"'()[]!:# \nonerror", max_size=120))
def test_any_card_is_rendered_without_scripts(text: str) -> None:
    page = render(text, "/o/n/resolve/main/", "/o/n/blob/main/").lower()
    assert "<script" not in page
    assert "<iframe" not in page
    assert 'href="javascript:' not in page


def test_relative_addresses_point_into_the_repo_and_others_stay() -> None:
    page = render("![a](x y.png) ![b](https://h/b.png) [c](/d.md) [e](#f)", "/F/", "/P/")
    assert 'src="https://h/b.png"' in page
    assert 'href="/P/d.md"' in page
    assert 'href="#f"' in page
    assert 'src="/F/x%20y.png"' in render("![a](<x y.png>)", "/F/", "/P/")
