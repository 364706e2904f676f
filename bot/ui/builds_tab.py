"""The queue: what runs, what waits, what ended; and the page of the one build that the address names."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from bot import sandbox
from bot.builds import Build, Phase
from bot.desk import Desk
from bot.errors import PhimillError
from bot.ui import build_view
from bot.ui.address import link_to
from bot.ui.asking import asked
from bot.ui.language import label, say
from bot.ui.markup import EMPTY, PLAIN, complaint, tag
from bot.ui.recent import Recent
from bot.ui.shown import when_shown
from bot.ui.snippet_view import COPY, snippets
from bot.visitor import OPERATOR, Visitor

REFRESH_SECONDS = 2.0
LISTED = 50
LOG_LINES = 400
# A link to a build opens it in place, unless it is to open elsewhere. The row around it does the same.
PICK = """
element.addEventListener('click', event => {
  const row = event.target.closest('[data-build]'), link = event.target.closest('a');
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey || (link && link.target)) return;
  event.preventDefault();
  history.pushState(null, '', row.dataset.build ? '?build=' + row.dataset.build : '?tab=builds');
  trigger('pick', {});
});
"""


def builds_tab(desk: Desk) -> None:
    """Fill the tab, and keep it up to date."""
    recent = Recent(lambda: (desk.builds(OPERATOR, LISTED), desk.mill.paused), REFRESH_SECONDS / 2)
    said, shown = gr.State(EMPTY), gr.State(())
    top = gr.HTML(js_on_load=PICK + when_shown(REFRESH_SECONDS), min_height=120, **PLAIN)
    with gr.Row():
        cancel = gr.Button(label("builds.cancel"), visible=False, size="sm", scale=0, min_width=160)
        retry = gr.Button(label("builds.retry"), visible=False, size="sm", scale=0, min_width=160)
    log = gr.HTML(**PLAIN)
    ways = gr.HTML(js_on_load=COPY, **PLAIN)
    # Without the queue: it closes the stream of its answers now and then, and what is asked in that moment is lost.
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    look = {
        "fn": asked(desk, partial(_look, recent), at="build"),
        "inputs": [said, shown],
        "outputs": [shown, top, log, ways, cancel, retry],
        **quiet,
    }
    top.shown(**look)
    top.pick(lambda: EMPTY, None, said, trigger_mode="always_last", **quiet).then(**look)
    for button, action in ((cancel, Desk.cancel), (retry, Desk.retry)):
        button.click(asked(desk, partial(_act, recent, action), at="build"), None, [said, shown], **quiet).then(**look)


def _act(recent: Recent[Any], action: Any, desk: Desk, who: Visitor, build: str) -> tuple[Markup, tuple[Any, ...]]:
    """Do it, and look again. The address stays: it names the newest attempt at this build."""
    recent.forget()
    try:
        action(desk, who, build)
    except PhimillError as error:
        return complaint(error), ()
    return EMPTY, ()


def _look(
    recent: Recent[Any], desk: Desk, who: Visitor, build: str, said: Markup, shown: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Everything the tab shows now, and what of it is new. Last in what is shown is the build whose end it is: nothing
    about that changes any more.
    """
    if build and shown and shown[-1] == build:
        return _changes(shown, shown)
    return _changes(_one(desk, who, build, said) if build else _all(recent, desk, who), shown)


def _changes(found: tuple[Any, ...], shown: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is shown now, and what of it is new: the rest is not sent again, so that selected text stays so."""
    before = shown if len(shown) == len(found) else (None,) * len(found)
    changed = [gr.skip() if new == old else new for new, old in zip(found, before, strict=True)]
    buttons = [gr.update(visible=item) if isinstance(item, bool) else item for item in changed[3:5]]
    return found, *changed[:3], *buttons


def _all(recent: Recent[Any], desk: Desk, who: Visitor) -> tuple[Any, ...]:
    try:
        builds, paused = recent.get()
        seen = [build for build in builds if who.sees(build.request)]
        listing = build_view.listing(seen, paused, desk.settings.endpoint, who.language)
    except PhimillError as error:
        listing = complaint(error)
    return str(listing), "", "", False, False, ""


def _one(desk: Desk, who: Visitor, name: str, said: Markup) -> tuple[Any, ...]:
    back, language = build_view.back(who.language), who.language
    try:
        build = desk.build(who, name)
        lines, steps = desk.log(who, build.id)[-LOG_LINES:], desk.steps(who, build.id)
    except PhimillError as error:
        return str(back + complaint(error)), "", "", False, False, ""
    tier = "" if build.over else str(sandbox.probe())
    details = build_view.details(build, steps, tier, desk.settings.endpoint, language)
    mine = desk.may_end(who, build)
    return (
        str(back + said + details),
        str(build_view.log(lines, language)),
        str(_ways(desk, who, build)),
        not build.over and mine,
        build.phase in (Phase.FAILED, Phase.CANCELLED) and mine,
        name if build.over else "",
    )


def _ways(desk: Desk, who: Visitor, build: Build) -> Markup:
    """When a build is over: how to get what it published, and a link to compare it."""
    repos = dict.fromkeys(r.repo for r in build.results if r.repo and r.status in ("published", "already_published"))
    if not build.over or not repos:
        return EMPTY
    parts = [tag("p", tag("a", say(who.language, "builds.compare"), href=link_to(compare=build.request.repo)))]
    for repo in repos:
        try:
            given = desk.pull(who, repo)
        except PhimillError as error:
            parts.append(complaint(error))
            continue
        parts += [tag("h3", say(who.language, "builds.get", repo=repo)), snippets(given, who.language)]
    return tag("div", *parts, cls="facts")
