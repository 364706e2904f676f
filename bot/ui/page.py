"""The whole page: a heading and the tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
from markupsafe import Markup

from bot.ui.address import open_by_address
from bot.ui.advice_tab import advice_tab
from bot.ui.builds_tab import builds_tab
from bot.ui.convert_tab import convert_tab
from bot.ui.language import label
from bot.ui.markup import PLAIN, link, tag
from bot.ui.releases_tab import releases_tab

if TYPE_CHECKING:
    from bot.desk import Desk


def build_page(desk: Desk) -> gr.Blocks:
    """The page, bound to one desk."""
    with gr.Blocks(title="phimill", analytics_enabled=False, fill_width=False) as page:
        gr.HTML(_heading(desk), **PLAIN)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab(label("page.tab_builds"), id="builds"):
                builds_tab(desk, page)
            with gr.Tab(label("page.tab_releases"), id="releases"):
                releases_tab(desk, page)
            with gr.Tab(label("page.tab_convert"), id="convert"):
                convert_tab(desk, page)
            with gr.Tab(label("page.tab_advice"), id="advice"):
                advice_tab(desk)
        open_by_address(page, tabs)
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
