"""The queue: what runs, what waits, what ended, and everything about the build that was picked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.builds import Build, LogLine, Phase
from bot.errors import PhimillError
from bot.ui import build_view
from bot.ui.access import people_may_build
from bot.ui.markup import EMPTY, PLAIN, complaint
from bot.ui.recent import Recent

if TYPE_CHECKING:
    from bot.mill import Mill

REFRESH_SECONDS = 2.0
LISTED = 50
LOG_LINES = 400
# The table reports the row that was clicked, or whose button was pressed from the keyboard.
PICK = """
element.addEventListener('click', event => {
  const row = event.target.closest('[data-build]');
  if (row) trigger('pick', {build: row.dataset.build});
});
"""


def builds_tab(mill: Mill, page: gr.Blocks) -> None:
    """Fill the tab, and keep it up to date."""
    allowed = people_may_build(mill.settings)
    recent = Recent(lambda: (mill.builds(LISTED), mill.paused), REFRESH_SECONDS / 2)
    picked, said, shown = gr.State(""), gr.State(EMPTY), gr.State(())
    table = gr.HTML(js_on_load=PICK, **PLAIN)
    with gr.Row():
        cancel = gr.Button("Cancel this build", visible=False, size="sm", scale=0, min_width=160)
        retry = gr.Button("Try this build again", visible=False, size="sm", scale=0, min_width=160)
    details = gr.HTML(**PLAIN)
    log = gr.HTML(**PLAIN)
    outputs = [shown, table, details, log, cancel, retry]
    look = partial(_look, mill, recent, allowed)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    page.load(look, [picked, said, shown], outputs, **quiet)
    gr.Timer(REFRESH_SECONDS).tick(look, [picked, said, shown], outputs, concurrency_limit=8, **quiet)
    table.pick(_picked, None, [picked, said], **quiet).then(look, [picked, said, shown], outputs, **quiet)
    if allowed:
        for button, action in ((cancel, mill.cancel), (retry, mill.retry)):
            button.click(partial(_act, recent, action), picked, [picked, said], **quiet).then(
                look, [picked, said, shown], outputs, **quiet
            )


def _picked(event: gr.EventData) -> tuple[str, Markup]:
    """Remember the build that was picked, and forget what was said about the last one."""
    return str(getattr(event, "build", "")), EMPTY


def _act(recent: Recent[Any], action: Any, picked: str) -> tuple[str, Markup]:
    recent.forget()
    try:
        return action(picked).id, EMPTY
    except PhimillError as error:
        return picked, complaint(error)


def _look(
    mill: Mill, recent: Recent[Any], allowed: bool, picked: str, said: Markup, shown: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Everything the tab shows; what did not change is not sent again, so that selected text stays so."""
    try:
        builds, paused = recent.get()
        listing = build_view.listing(builds, paused, picked, mill.settings.endpoint)
    except PhimillError as error:
        listing = complaint(error)
    try:
        one, lines = _one(mill, picked)
    except PhimillError as error:
        one, lines, said = None, (), complaint(error)
    fresh: tuple[Any, ...] = (
        str(listing),
        str(said + build_view.details(one, mill.settings.endpoint)) if one else str(said),
        str(build_view.log(lines)),
        allowed and one is not None and not one.over,
        allowed and one is not None and one.phase in (Phase.FAILED, Phase.CANCELLED),
    )
    before = shown if len(shown) == len(fresh) else (None,) * len(fresh)
    changed = [gr.skip() if new == old else new for new, old in zip(fresh, before, strict=True)]
    buttons = [gr.update(visible=item) if isinstance(item, bool) else item for item in changed[3:]]
    return fresh, *changed[:3], *buttons


def _one(mill: Mill, picked: str) -> tuple[Build | None, tuple[LogLine, ...]]:
    if not picked:
        return None, ()
    build = mill.build(picked)
    return build, mill.log(build.id)[-LOG_LINES:]
