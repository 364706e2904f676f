"""The web page: builds, releases, and a form to ask for a conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.ui.boards import Boards


def create_page(desk: Desk, boards: Boards) -> Any:
    """The page as a `gradio.Blocks`. Gradio is imported here, because it takes seconds."""
    from bot.ui.page import build_page

    return build_page(desk, boards)
