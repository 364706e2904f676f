"""What the page's address asks for: `?build=ID`, `?compare=OWNER/NAME`, `?repo=OWNER/NAME`, or a tab by its name.

The browser sends the address along with every event. So a link to a part of the page can be shared, and what it shows
comes back after a reload and after a restart of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import gradio as gr

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 400  # characters; a repo's name has at most 193
# The tab in which a parameter is shown.
SHOWN_IN = {"build": "builds", "compare": "compare", "repo": "convert"}


def part(parameters: Mapping[str, str], name: str) -> str:
    """The value of one parameter of the address; empty where it has none."""
    return str(parameters.get(name, ""))[:LONGEST].strip()


def tab_of(parameters: Mapping[str, str]) -> str:
    """The tab that an address opens; empty where it names none."""
    shown = (tab for name, tab in SHOWN_IN.items() if part(parameters, name))
    return next(shown, part(parameters, "tab"))


def link_to(**parameters: str) -> str:
    """The address of a part of the page, relative to it: `link_to(build="1a2b")`."""
    return "?" + urlencode(parameters)


def open_by_address(page: gr.Blocks, tabs: gr.Tabs) -> None:
    """Let the page open in the tab that its address asks for, and the address follow the tab that is opened."""
    known = {tab.id: tab for tab in tabs.children if isinstance(tab, gr.Tab)}

    def opened(request: gr.Request) -> Any:
        wanted = tab_of(request.query_params)
        return gr.Tabs(selected=wanted) if wanted in known else gr.skip()

    at_once: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    page.load(opened, None, tabs, **at_once).then(None, js=OPENED)
    for name, tab in known.items():
        own = [parameter for parameter, shown in SHOWN_IN.items() if shown == name]
        tab.select(None, js=FOLLOW % (name, own))


OPENED = "() => { window.tabIsOpen = true; }"
# The first tab is shown, and so selected, before the address has been read: that is nobody's wish. An address that
# opened this very tab is left alone.
FOLLOW = """() => {
  const tab = '%s', parameters = new URLSearchParams(location.search);
  if (!window.tabIsOpen || parameters.get('tab') === tab || %s.some(own => parameters.has(own))) return;
  history.replaceState(null, '', '?tab=' + tab);
}"""
