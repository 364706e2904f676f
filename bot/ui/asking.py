"""How an event of the page reaches a handler: with the desk, and with who is asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from bot.ui.access import visitor
from bot.ui.address import part

if TYPE_CHECKING:
    from bot.desk import Desk


def asked(desk: Desk, handler: Callable[..., Any], at: str | None = None) -> Callable[..., Any]:
    """`handler(desk, visitor, *inputs)` in the form in which Gradio calls it.

    With `at` it is told what the page's address says under that name: `handler(desk, visitor, said, *inputs)`.
    Gradio finds out by their types which arguments it has to fill in, and reads no types through a `partial`.
    """

    def handle(request: gr.Request, *inputs: Any) -> Any:
        said = (part(request.query_params, at),) if at else ()
        return handler(desk, visitor(desk.settings, request), *said, *inputs)

    return handle
