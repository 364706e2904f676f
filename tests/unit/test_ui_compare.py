"""The comparison of a release's variants: what is drawn, and what is read out of receipts."""

from __future__ import annotations

import re

import pytest
from fake_mill import FakeMill
from pydantic import SecretStr
from test_card import changed

from bot import comparison, plot
from bot.comparison import Compared, front
from bot.desk import Desk
from bot.kept import Kept
from bot.settings import Settings
from bot.ui import compare_tab
from bot.ui.compare_tab import comparison as shown
from bot.ui.language import LANGUAGES
from bot.ui.plot_view import SHAPES
from bot.visitor import OPERATOR, STRANGER, Visitor

HUB = "https://huggingface.co"
EVIL = "<img src=x onerror=alert(1)>"


def one(recipe: str, size: int, kl: float, title: str = "INT4 (Q4_K_M)") -> Compared:
    backend = recipe.split("/")[0]
    return Compared(
        recipe=recipe, backend=backend, title=title, repo=f"phimill/x-{backend}", tag="v1.0", size=size, kl=kl,
        top1=0.93, perplexity_ratio=1.02,
    )  # fmt: skip


FOUR = [
    one("gguf/int4", 2_000_000_000, 0.02), one("gguf/bf16", 8_000_000_000, 0.0, "BF16, as it is"),
    one("mlx/int4", 2_100_000_000, 0.05), one("onnx/int8", 4_000_000_000, 0.001),
]  # fmt: skip


def test_the_front_is_the_one_of_the_card_s_picture() -> None:
    marks = [plot.Mark(c.recipe, "ladder", c.size, c.kl) for c in FOUR]
    assert [c.recipe for c in front(FOUR)] == [m.label for m in plot.pareto(marks)]
    assert [c.recipe for c in front(FOUR)] == ["gguf/int4", "onnx/int8", "gguf/bf16"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_variant_is_a_mark_that_says_its_figures_and_a_row(language: str) -> None:
    html = str(shown(FOUR, language, HUB))
    assert html.count("data-mark=") == html.count("data-tip=") == 4
    label = re.search(r'aria-label="(gguf/int4 · Q4_K_M[^"]*)"', html)
    assert label
    for figure in ("2.0 GB", "0.0200", "93.0 %", "1.020"):
        assert figure in label[1]
    assert html.count("★") == 3 + 1  # and what it means
    assert f'href="{HUB}/phimill/x-onnx/tree/v1.0"' in html


def test_backends_differ_by_shape() -> None:
    html = str(shown(FOUR, "en", HUB))
    assert len(set(SHAPES.values())) == len(SHAPES)
    assert all(SHAPES[name] in html for name in ("gguf", "mlx", "onnx"))


def test_marks_stay_inside_the_picture_whatever_the_figures() -> None:
    for some in ([FOUR[0]], [one("gguf/a", 1, 0.0)], [one("gguf/a", 1, 1e-12), one("gguf/b", 10**13, 50.0)]):
        places = re.findall(r'transform="translate\(([\d.-]+),([\d.-]+)\)" class="mark', str(shown(some, "en", HUB)))
        assert len(places) == len(some)
        assert all(56 <= float(x) <= 616 and 16 <= float(y) <= 354 for x, y in places)


def test_hostile_words_are_text() -> None:
    evil = one(f"{EVIL}/{EVIL}", 10, 0.1, EVIL).model_copy(update={"repo": EVIL, "tag": '"><script>'})
    html = str(shown([evil], "en", HUB))
    assert "<img" not in html
    assert "<script" not in html


def test_without_anything_published_it_says_where_to_go() -> None:
    assert "Nothing of this release is published yet." in str(shown([], "en", HUB))


def test_what_one_may_see_is_not_kept_for_the_other() -> None:
    mill = FakeMill(Settings())
    desk, kept = Desk(mill), Kept[tuple[Compared, ...]](60, 10)
    ann, eve = (Visitor(name=name, token=SecretStr(name)) for name in ("ann", "eve"))
    for who in (STRANGER, STRANGER, ann, ann, eve, OPERATOR, STRANGER):
        compare_tab._answer(kept, desk, who, " a/b ")
    assert mill.calls == 4 * [("compare", "a/b")]


def test_figures_of_a_receipt_that_make_no_sense_are_left_out() -> None:
    state = changed()
    broken = state.variants[0].model_copy(
        update={"fidelity": state.variants[0].fidelity.model_copy(update={"kl_mean": float("nan")})}
    )
    found = comparison.rows(state.model_copy(update={"variants": (broken, *state.variants[1:])}))
    assert [c.recipe for c in found] == [v.recipe for v in state.variants[1:]]
    assert all(c.repo == state.repo for c in found)
