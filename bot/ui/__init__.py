"""The web page: builds, releases, and a form to ask for a conversion."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.ui.boards import Boards


def create_page(desk: Desk, boards: Boards) -> Any:
    """The page as a `gradio.Blocks`. Gradio is imported here, because it takes seconds."""
    # Gradio would sum up all past events anew after each one, for a page of its own that we do not show.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(2**31)
    from bot.ui.page import build_page

    return build_page(desk, boards)
