"""The whole page: a heading and the tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
from markupsafe import Markup

from bot.ui.address import open_by_address
from bot.ui.advice_tab import advice_tab
from bot.ui.builds_tab import builds_tab
from bot.ui.compare_tab import compare_tab
from bot.ui.convert_tab import convert_tab
from bot.ui.endpoints import add_endpoints
from bot.ui.language import label
from bot.ui.markup import PLAIN, link, tag
from bot.ui.programs_tab import programs_tab
from bot.ui.releases_tab import releases_tab
from bot.ui.sign_in import place_sign_in, sign_in_button

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.ui.boards import Boards


# Open pages that are remembered, half a megabyte each. One that is pushed out by newer ones is sent everything again.
SESSIONS = 200


def build_page(desk: Desk, boards: Boards) -> gr.Blocks:
    """The page, bound to one desk and to what is known of the releases."""
    door = sign_in_button()
    with gr.Blocks(title="phimill", analytics_enabled=False, fill_width=False) as page:
        gr.HTML(_heading(desk), **PLAIN)
        place_sign_in(desk, page, door)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab(label("page.tab_builds"), id="builds"):
                builds_tab(desk, page)
            with gr.Tab(label("page.tab_releases"), id="releases"):
                releases_tab(desk, page, boards)
            with gr.Tab(label("page.tab_compare"), id="compare"):
                compare_tab(desk, page)
            with gr.Tab(label("page.tab_convert"), id="convert"):
                convert_tab(desk, page)
            with gr.Tab(label("page.tab_advice"), id="advice"):
                advice_tab(desk)
            with gr.Tab(label("page.tab_programs"), id="programs"):
                programs_tab(page)
        open_by_address(page, tabs)
        add_endpoints(desk)
    page.state_session_capacity = SESSIONS
    page.queue(api_open=False, default_concurrency_limit=4, max_size=200)
    return page


def _heading(desk: Desk) -> Markup:
    settings = desk.settings
    where = f", publishing to {settings.namespace}" if settings.namespace else ""
    watching = (
        "Watching ",
        ", ".join(settings.watch),
        " on ",
        link(settings.endpoint, settings.endpoint),
        where,
    )
    return tag("div", tag("h1", "phimill"), tag("span", *watching), cls="mill-head")
