"""The dashboard: every watched release, where each of its variants stands, and ways to find some of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from bot.models import Precision
from bot.recipes import backends
from bot.ui import releases_view
from bot.ui.asking import asked
from bot.ui.board import SORTS, Query
from bot.ui.language import label
from bot.ui.markup import EMPTY, PLAIN
from bot.ui.shown import when_shown

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.ui.boards import Boards
    from bot.visitor import Visitor

REFRESH_SECONDS = 30.0
FIRST_WAIT = 10.0  # seconds that the first visitors of a server wait for its first look at the Hub
STATES = ("published", "building", "waiting", "failed", "stale", "refused", "unsuited", "missing")
# What a browser that shows nothing yet has: the table's hash, the page, and whether there is one before and after.
NOTHING = (0, 1, False, False)
PAGE_BY = "(...given) => [...given.slice(0, -1), Math.max(1, (given.at(-1) || 1) + ({0}))]"
PAGE_ONE = "(...given) => [...given.slice(0, -1), 1]"


def releases_tab(desk: Desk, boards: Boards) -> None:
    """Fill the tab, and keep it up to date."""
    with gr.Row(elem_classes="filters"):
        text = gr.Textbox(label=label("releases.search"), max_length=100, min_width=200, scale=2)
        backend = _choice("backend", [(name, name) for name in backends()])
        precision = _choice(
            "precision", [(each.value, each.value) for each in Precision if each is not Precision.OTHER]
        )
        state = _choice("state", [(label(f"releases.state_{name}"), name) for name in STATES])
        sort = gr.Dropdown(
            [(label(f"releases.sort_{name}"), name) for name in SORTS],
            value=SORTS[0], label=label("releases.sort"), min_width=130, filterable=False,
        )  # fmt: skip
    table = gr.HTML(js_on_load=when_shown(REFRESH_SECONDS), **PLAIN)
    with gr.Row(elem_classes="pager"):
        before = gr.Button(label("releases.before"), size="sm", interactive=False, min_width=90)
        number = gr.Number(1, label=label("releases.page"), minimum=1, precision=0, min_width=90)
        after = gr.Button(label("releases.after"), size="sm", interactive=False, min_width=90)
    shown = gr.State(NOTHING)
    wanted: list[Any] = [shown, text, backend, precision, state, sort, number]
    look = {
        "fn": asked(desk, partial(_look, boards)),
        "inputs": wanted,
        "outputs": [shown, table, number, before, after],
        "show_progress": "hidden",
        "api_visibility": "private",
        "queue": False,  # an answer is known already; a line to wait in would take longer than it
        "trigger_mode": "always_last",
    }
    table.shown(**look)
    number.input(**look)
    gr.on([text.input, backend.input, precision.input, state.input, sort.input], js=PAGE_ONE, **look)
    before.click(js=PAGE_BY.format(-1), **look)
    after.click(js=PAGE_BY.format(1), **look)


def _choice(name: str, choices: list[Any]) -> gr.Dropdown:
    """A filter that may ask for nothing."""
    anything = [(label("releases.any"), "")]
    return gr.Dropdown(
        [*anything, *choices], value="", label=label(f"releases.{name}"), min_width=130, filterable=False
    )


def _look(
    boards: Boards,
    desk: Desk,
    who: Visitor,
    before: tuple[int, int, bool, bool],
    text: str | None,
    backend: str,
    precision: str,
    state: str,
    sort: str,
    page: float | None,
) -> tuple[Any, ...]:
    """The table and the state of the pager; what did not change is not sent again, so that selected text stays so."""
    query = Query((text or "").strip()[:100], backend, precision, state, sort, int(page or 1))
    html, number, pages = _page(boards, desk, who, query)
    fresh = (hash(html), number, number > 1, number < pages)
    before = before if len(before) == len(fresh) else NOTHING
    table, _, earlier, later = (new != old for new, old in zip(fresh, before, strict=True))
    return (
        fresh,
        html if table else gr.skip(),
        # The page that was asked for need not be the one that the browser shows the number of.
        gr.skip() if before[1] == number == page else number,
        gr.update(interactive=number > 1) if earlier else gr.skip(),
        gr.update(interactive=number < pages) if later else gr.skip(),
    )


def _page(boards: Boards, desk: Desk, who: Visitor, query: Query) -> tuple[str, int, int]:
    """The table as HTML, the number of the page it is, and how many there are."""
    board, age, error = boards.of(who).get(FIRST_WAIT)
    said = releases_view.trouble(error, None if board is None else age, who.language) if error else EMPTY
    if board is None:
        return str(said or releases_view.looking(who.language)), 1, 1
    if not board.names:
        return str(said + releases_view.none_yet(desk.settings.watch, who.language)), 1, 1
    found = board.page(query)
    return str(said + releases_view.listing(found, who.language, desk.settings.endpoint)), found.page, found.pages
