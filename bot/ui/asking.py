"""How an event of the page reaches a handler: with the desk, and with who is asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from bot.errors import PhimillError
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
        try:
            who = visitor(desk.settings, request)
        except PhimillError as error:
            raise gr.Error(str(error)) from error
        said = (part(request.query_params, at),) if at else ()
        return handler(desk, who, *said, *inputs)

    return handle
