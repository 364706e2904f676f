"""Markdown escaping: read back by a Markdown parser, every value is the text it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot.templates.filters import code, count, environment, fence, kl, link, md, one_line, shorten, size

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = st.text(alphabet=st.sampled_from("\\`*_{}[]()<>#+-=.!|~&;:/@$\"' \n\t\rab1wW"), max_size=60)
ANY = st.one_of(NASTY, st.text(max_size=60))


def inline(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in (token.children or ())]


def text_of(tokens: list[Token]) -> str:
    return "".join(t.content for t in tokens if t.type in ("text", "text_special", "code_inline"))


@given(ANY)
def test_text_at_the_start_of_a_line_is_one_paragraph_of_text(value: str) -> None:
    tokens = READER.parse(str(md(value)))
    expected = one_line(value)
    assert [t.type for t in tokens] == (["paragraph_open", "inline", "paragraph_close"] if expected else [])
    assert {t.type for t in inline(tokens)} <= {"text", "text_special"}
    assert text_of(inline(tokens)) == expected


@given(ANY, ANY)
def test_text_in_a_table_stays_in_its_cell(left: str, right: str) -> None:
    tokens = READER.parse(f"| a | b |\n|---|---|\n| x{md(left)} | {md(right)}x |\n")
    cells = [t for t in tokens if t.type == "inline"]
    assert len(cells) == 4
    assert text_of(cells[2].children or []) == one_line(f"x{one_line(left)}")
    assert text_of(cells[3].children or []) == one_line(f"{one_line(right)}x")


@given(ANY)
def test_text_in_an_html_block_adds_no_tag(value: str) -> None:
    escaped = str(md(value))
    assert "<" not in escaped
    assert ">" not in escaped
    assert '"' not in escaped
    assert "\n" not in escaped


@given(ANY)
def test_a_code_span_in_a_cell_holds_the_text_and_nothing_else(value: str) -> None:
    tokens = READER.parse(f"| a | b |\n|---|---|\n| {code(value)} | x |\n")
    cells = [t for t in tokens if t.type == "inline"]
    assert len(cells) == 4
    found = cells[2].children or []
    assert text_of(found) == one_line(value)
    assert [t.content for t in found if t.type == "html_inline"] in ([], ["<code>", "</code>"])


@given(ANY)
def test_a_fence_holds_everything_up_to_its_end(value: str) -> None:
    tokens = READER.parse(f"{fence(value, 'text')}\n\nafter\n")
    assert [t.type for t in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].info == "text"


@given(st.text(alphabet="ab `~\n\t<|>", max_size=40))
def test_a_fence_keeps_the_text_as_it_is(value: str) -> None:
    (token,) = READER.parse(str(fence(value)))
    assert token.content.rstrip("\n") == value.rstrip("\n")


@given(ANY, ANY)
def test_a_link_is_one_link(text: str, path: str) -> None:
    tokens = inline(READER.parse(f"x {link(text, 'https://hub.example/' + path)} y"))
    assert [t.type for t in tokens if t.type.startswith("link")] == ["link_open", "link_close"]
    opened = next(t for t in tokens if t.type == "link_open")
    assert str(opened.attrs["href"]).startswith("https://hub.example/")
    assert not [t for t in tokens if t.type == "html_inline"]


@pytest.mark.parametrize("address", ["http://e.example", "www.e.example", "mailto:a", "a@e.example", "ftp://e"])
def test_an_address_is_not_made_a_link_by_the_hub(address: str) -> None:
    escaped = str(md(f"see {address}"))
    assert address not in escaped


@pytest.mark.parametrize("plain", ["Q4_K_M", "3.87 MB", "1.5e-3", "phones, IoT and small laptops", "Q4_K_M (imatrix)"])
def test_ordinary_text_stays_readable_in_the_raw_file(plain: str) -> None:
    assert str(md(plain)) == plain


@pytest.mark.parametrize("start", ["# a", "- a", "+ a", "1. a", "12) a", "---", "===", "+"])
def test_what_would_start_a_block_does_not(start: str) -> None:
    assert [t.type for t in READER.parse(f"para\n{md(start)}\n")] == [
        "paragraph_open",
        "inline",
        "paragraph_close",
    ]


def test_invisible_and_direction_changing_characters_go() -> None:
    assert one_line("a\u202eb\u200bc\x00d\x85e\u2028f") == "abcd e f"
    assert "\u202e" not in str(fence("a\u202eb\x1b[31m"))


def test_a_language_that_is_none_is_left_out() -> None:
    assert str(fence("x", "py`\n# Big")).startswith("```\nx")


def test_a_template_escapes_what_it_prints_without_being_asked() -> None:
    template = environment().from_string("{{ a }} {{ a | code }} {% for x in [a] %}{{ x }}{% endfor %}")
    assert "<b>" not in template.render(a="<b>|`")


def test_a_missing_value_is_an_error_and_not_a_blank() -> None:
    with pytest.raises(Exception, match="undefined"):
        environment().from_string("{{ nothing }}").render()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (7.7e-8, "7.7e-8"), (1.51e-3, "1.5e-3"), (0.15, "1.5e-1"), (2.0, "2.0e0"), (None, "n/a")],
)
def test_a_divergence_has_two_digits(value: float | None, shown: str) -> None:
    assert kl(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.00 MB"), (3_870_000, "3.87 MB"), (1_000_000_000, "1.00 GB"), (58_640_000_000, "58.64 GB")],
)
def test_a_size_is_decimal_as_on_the_hub(value: int, shown: str) -> None:
    assert size(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(6_164_736, "6.2 million"), (3_821_079_552, "3.82 billion")])
def test_parameters_are_counted_in_words(value: int, shown: str) -> None:
    assert count(value) == shown


def test_shortening_marks_the_cut() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
