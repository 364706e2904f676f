"""Compare: every published variant of a release in one picture and one table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.comparison import Compared, front
from bot.errors import PhimillError
from bot.kept import Kept
from bot.ui import words
from bot.ui.asking import asked
from bot.ui.language import label, say
from bot.ui.markup import PLAIN, complaint, grid, link, note, row, tag
from bot.ui.plot_view import plot
from bot.ui.shown import when_shown

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.visitor import Visitor

KEPT_SECONDS, MOST = 60.0, 64
# Shows what belongs to the mark that is pointed at or focused.
SHOW = """
const tips = () => element.querySelectorAll('[data-tip]');
const show = event => {
  const mark = event.target.closest('[data-mark]');
  tips().forEach(tip => tip.classList.toggle('shown', mark !== null && tip.dataset.tip === mark.dataset.mark));
};
const hide = () => tips().forEach(tip => tip.classList.remove('shown'));
element.addEventListener('mouseover', show);
element.addEventListener('focusin', show);
element.addEventListener('mouseleave', hide);
element.addEventListener('focusout', hide);
element.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
"""


def compare_tab(desk: Desk) -> None:
    """Fill the tab."""
    kept: Kept[tuple[Compared, ...]] = Kept(KEPT_SECONDS, MOST)
    with gr.Row():
        repo = gr.Textbox(
            label=label("compare.repo"), placeholder="microsoft/Phi-4-mini-instruct", max_length=200, scale=3
        )
        ask = gr.Button(label("compare.ask"), variant="primary", scale=0, min_width=140)
    answer = gr.HTML(js_on_load=SHOW + when_shown(), **PLAIN)
    seen: dict[str, Any] = {
        "show_progress_on": answer,
        "api_visibility": "private",
        "concurrency_limit": 4,
        "trigger_mode": "always_last",
    }
    gr.on([ask.click, repo.submit], asked(desk, partial(_answer, kept)), repo, answer, **seen)
    answer.shown(asked(desk, partial(_opened, kept), at="compare"), None, [repo, answer], queue=False, **seen)


def _opened(kept: Kept[tuple[Compared, ...]], desk: Desk, who: Visitor, named: str) -> tuple[Any, Any]:
    """What the address asks for."""
    return (named, _answer(kept, desk, who, named)) if named else (gr.skip(), gr.skip())


def _answer(kept: Kept[tuple[Compared, ...]], desk: Desk, who: Visitor, repo: str | None) -> str:
    try:
        name = (repo or "").strip()
        found = kept.get((who.operator, who.name, name), lambda: desk.compare(who, name))
    except PhimillError as error:
        return str(complaint(error))
    return str(comparison(found, who.language, desk.settings.endpoint))


def comparison(compared: Sequence[Compared], language: str, endpoint: str) -> Markup:
    """The picture, and the same as a table; of both, the smallest comes first."""
    if not compared:
        return note(say(language, "compare.none"))
    best = front(compared)
    heads = [say(language, f"compare.{name}") for name in ("variant", "size", "kl", "top1", "perplexity", "where")]
    rows = [
        _row(one, one in best, language, endpoint) for one in sorted(compared, key=lambda o: (o.size, o.kl, o.recipe))
    ]
    return plot(compared, language) + grid(heads, rows) + note(say(language, "compare.explained"), kind="quiet small")


def _row(one: Compared, best: bool, language: str, endpoint: str) -> Markup:
    star = tag("span", "★ ", title=say(language, "compare.front")) if best else ""
    numbers = (words.size(one.size), words.nats(one.kl), words.share(one.top1), f"× {one.perplexity_ratio:.3f}")
    return row(
        tag("div", star, one.recipe, tag("div", one.title, cls="quiet small")),
        *(tag("span", text, cls="number") for text in numbers),
        link(f"{one.repo}@{one.tag}", f"{endpoint}/{one.repo}/tree/{one.tag}"),
    )
