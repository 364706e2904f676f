"""Who may do more than look. There is no sign-in: on loopback everybody may, elsewhere nobody."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from bot.settings import Settings
from bot.ui.language import preferred
from bot.visitor import Visitor

if TYPE_CHECKING:
    import gradio as gr


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def people_may_build(settings: Settings) -> bool:
    """Whether the page's visitors may start, cancel and retry builds.

    The bot's token must not serve strangers, so a page that strangers can open only shows and checks. A
    Space is always such a page, whatever address it listens on.
    """
    return is_loopback(settings.host) and "SPACE_ID" not in os.environ


def visitor(settings: Settings, request: gr.Request) -> Visitor:
    """Who sent this request of the page or of the API."""
    address = request.client.host if request.client else ""
    language = preferred(request.headers.get("accept-language", ""))
    return Visitor(operator=people_may_build(settings), address=address, language=language)
