"""The queue: what runs, what waits, what ended, and everything about the build that was picked."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from bot.builds import Build, LogLine, Phase
from bot.desk import Desk
from bot.errors import PhimillError
from bot.ui import build_view
from bot.ui.access import people_may_build
from bot.ui.asking import asked
from bot.ui.markup import EMPTY, PLAIN, complaint
from bot.ui.recent import Recent
from bot.visitor import STRANGER, Visitor

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


def builds_tab(desk: Desk, page: gr.Blocks) -> None:
    """Fill the tab, and keep it up to date."""
    allowed = people_may_build(desk.settings)
    recent = Recent(lambda: (desk.builds(STRANGER, LISTED), desk.mill.paused), REFRESH_SECONDS / 2)
    picked, said, shown = gr.State(""), gr.State(EMPTY), gr.State(())
    table = gr.HTML(js_on_load=PICK, **PLAIN)
    with gr.Row():
        cancel = gr.Button("Cancel this build", visible=False, size="sm", scale=0, min_width=160)
        retry = gr.Button("Try this build again", visible=False, size="sm", scale=0, min_width=160)
    details = gr.HTML(**PLAIN)
    log = gr.HTML(**PLAIN)
    outputs = [shown, table, details, log, cancel, retry]
    look = asked(desk, partial(_look, recent))
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    page.load(look, [picked, said, shown], outputs, **quiet)
    gr.Timer(REFRESH_SECONDS).tick(look, [picked, said, shown], outputs, concurrency_limit=8, **quiet)
    table.pick(_picked, None, [picked, said], **quiet).then(look, [picked, said, shown], outputs, **quiet)
    if allowed:
        for button, action in ((cancel, Desk.cancel), (retry, Desk.retry)):
            button.click(asked(desk, partial(_act, recent, action)), picked, [picked, said], **quiet).then(
                look, [picked, said, shown], outputs, **quiet
            )


def _picked(event: gr.EventData) -> tuple[str, Markup]:
    """Remember the build that was picked, and forget what was said about the last one."""
    return str(getattr(event, "build", "")), EMPTY


def _act(recent: Recent[Any], action: Any, desk: Desk, who: Visitor, picked: str) -> tuple[str, Markup]:
    recent.forget()
    try:
        return action(desk, who, picked).id, EMPTY
    except PhimillError as error:
        return picked, complaint(error)


def _look(
    recent: Recent[Any], desk: Desk, who: Visitor, picked: str, said: Markup, shown: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Everything the tab shows; what did not change is not sent again, so that selected text stays so."""
    try:
        builds, paused = recent.get()
        listing = build_view.listing(builds, paused, picked, desk.settings.endpoint)
    except PhimillError as error:
        listing = complaint(error)
    try:
        one, lines = _one(desk, who, picked)
    except PhimillError as error:
        one, lines, said = None, (), complaint(error)
    fresh: tuple[Any, ...] = (
        str(listing),
        str(said + build_view.details(one, desk.settings.endpoint)) if one else str(said),
        str(build_view.log(lines)),
        one is not None and not one.over and desk.may_end(who, one),
        one is not None and one.phase in (Phase.FAILED, Phase.CANCELLED) and desk.may_end(who, one),
    )
    before = shown if len(shown) == len(fresh) else (None,) * len(fresh)
    changed = [gr.skip() if new == old else new for new, old in zip(fresh, before, strict=True)]
    buttons = [gr.update(visible=item) if isinstance(item, bool) else item for item in changed[3:]]
    return fresh, *changed[:3], *buttons


def _one(desk: Desk, who: Visitor, picked: str) -> tuple[Build | None, tuple[LogLine, ...]]:
    if not picked:
        return None, ()
    build = desk.build(who, picked)
    return build, desk.log(who, build.id)[-LOG_LINES:]
