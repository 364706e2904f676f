"""The whole page: a heading and the tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.ui.address import open_by_address
from bot.ui.advice_tab import advice_tab
from bot.ui.asking import asked
from bot.ui.builds_tab import builds_tab
from bot.ui.compare_tab import compare_tab
from bot.ui.convert_tab import convert_tab
from bot.ui.endpoints import add_endpoints
from bot.ui.language import ENGLISH, label, say
from bot.ui.markup import PLAIN, link, tag
from bot.ui.programs_tab import programs_tab
from bot.ui.releases_tab import releases_tab
from bot.ui.sign_in import place_sign_in, sign_in_button

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.settings import Settings
    from bot.ui.boards import Boards
    from bot.visitor import Visitor

HUB = "\0"  # where the link to the Hub comes in a sentence

# Open pages that are remembered, half a megabyte each. One that is pushed out by newer ones is sent everything again.
SESSIONS = 200


def build_page(desk: Desk, boards: Boards) -> gr.Blocks:
    """The page, bound to one desk and to what is known of the releases."""
    door = sign_in_button()
    with gr.Blocks(title="phimill", analytics_enabled=False, fill_width=False) as page:
        heading = gr.HTML(_heading(desk.settings, ENGLISH), **PLAIN)
        spoken: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        page.load(asked(desk, _spoken), None, heading, **spoken)
        place_sign_in(desk, page, door)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab(label("page.tab_builds"), id="builds"):
                builds_tab(desk)
            with gr.Tab(label("page.tab_releases"), id="releases"):
                releases_tab(desk, boards)
            with gr.Tab(label("page.tab_compare"), id="compare"):
                compare_tab(desk)
            with gr.Tab(label("page.tab_convert"), id="convert"):
                convert_tab(desk)
            with gr.Tab(label("page.tab_advice"), id="advice"):
                advice_tab(desk)
            with gr.Tab(label("page.tab_programs"), id="programs"):
                programs_tab(page)
        open_by_address(page, tabs)
        add_endpoints(desk)
    page.state_session_capacity = SESSIONS
    page.queue(api_open=False, default_concurrency_limit=4, max_size=200)
    return page


def _heading(settings: Settings, language: str) -> Markup:
    watch = ", ".join(settings.watch)
    said = say(language, "page.watching" if watch else "page.working", watch=watch, hub=HUB)
    before, _, after = said.partition(HUB)
    where = say(language, "page.publishing", namespace=settings.namespace) if settings.namespace else ""
    told = tag("span", before, link(settings.endpoint, settings.endpoint), after, where)
    return tag("div", tag("h1", "phimill"), told, cls="mill-head")


def _spoken(desk: Desk, who: Visitor) -> Any:
    """The heading for whoever reads another language than the one it is made in."""
    return gr.skip() if who.language == ENGLISH else str(_heading(desk.settings, who.language))
