"""The form: find a release, see what can be made of it, tick, see what would be published, and ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.errors import PhimillError
from bot.offer import PRESETS, RECOMMENDED, Offer, allowed, offers, ticked
from bot.reader import CheckReport
from bot.recipes import by_id
from bot.ui import verdict_view, words
from bot.ui.access import can_sign_in
from bot.ui.address import link_to
from bot.ui.asking import asked
from bot.ui.build_view import results
from bot.ui.language import label, say
from bot.ui.markup import EMPTY, PLAIN, complaint, note, tag
from bot.ui.shown import when_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.builds import Build
    from bot.desk import Desk
    from bot.planning import Plan
    from bot.visitor import Visitor

ADDRESS = "repo => { if (repo.trim()) history.replaceState(null, '', '?repo=' + encodeURIComponent(repo.trim())); }"
# What is ticked is read when it is needed, so that what is asked for is what is seen.
BOXES = """(_, ...rest) => {
  const boxes = document.querySelectorAll('input[data-recipe]:checked');
  return [[...boxes].map(box => box.dataset.recipe), ...rest];
}"""


def convert_tab(desk: Desk) -> None:
    """Fill the tab."""
    report, chosen, boxes = gr.State(None), gr.State(()), gr.JSON(visible=False)
    with gr.Row(equal_height=False):
        repo = gr.Textbox(
            label=label("convert.repo"),
            info=label("convert.repo_info"),
            placeholder="microsoft/Phi-4-mini-instruct",
            max_length=200,
            min_width=260,  # on a phone the button goes below
        )
        check = gr.Button(label("convert.check"), scale=0, min_width=120)
    found = gr.HTML(js_on_load=verdict_view.CHOOSE + when_shown(), min_height=96, **PLAIN)
    facts = gr.HTML(**PLAIN)
    with gr.Column(visible=False) as order:
        preset = gr.Radio(
            [(label(f"convert.{p}"), p) for p in PRESETS], value=RECOMMENDED, label=label("convert.preset")
        )
    matrix = gr.HTML(js_on_load=verdict_view.TICK, **PLAIN)
    preview = gr.HTML(**PLAIN)
    with gr.Column(visible=False) as sending:
        with gr.Row():
            target = gr.Dropdown([], allow_custom_value=True, label=label("convert.target"))
            private = gr.Checkbox(False, label=label("convert.private"))
        convert = gr.Button(label("convert.convert"), variant="primary")
    answer = gr.HTML(**PLAIN)

    # What somebody did last counts: Gradio drops what they do while it works, unless told otherwise.
    common: dict[str, Any] = {"api_visibility": "private", "trigger_mode": "always_last"}
    quiet: dict[str, Any] = {"show_progress": "hidden", **common}
    seen: dict[str, Any] = {"show_progress_on": facts, "concurrency_limit": 4, **common}
    # What waits runs with what is on the page by then, but with the event that came first: not where an event tells.
    picked = {**quiet, "trigger_mode": "multiple"}
    wanted = [report, chosen, target, private]
    looked = (
        asked(desk, _check),
        [repo, preset, target],
        [report, chosen, facts, matrix, order, sending, preview, answer],
    )
    foreseen = (asked(desk, _preview), wanted, preview)

    welcome = found.shown(asked(desk, _welcome, at="repo"), repo, [repo, found, target], queue=False, **quiet)
    welcome.then(*looked, **seen).then(*foreseen, **quiet)
    repo.input(asked(desk, _search), repo, found, **quiet)
    for begun in (check.click, repo.submit, found.pick(_picked, None, repo, **picked).then):
        begun(None, repo, None, js=ADDRESS).then(*looked, **seen).then(*foreseen, **quiet)
    preset.input(asked(desk, _preset), [report, preset], [chosen, matrix], **quiet).then(*foreseen, **quiet)
    matrix.pick(asked(desk, _ticked), [boxes, report], chosen, js=BOXES, **quiet).then(*foreseen, **quiet)
    gr.on([target.change, private.change], *foreseen, **quiet)
    asking: dict[str, Any] = {"show_progress_on": answer, "api_visibility": "private"}  # pressed twice, asked once
    convert.click(asked(desk, _convert), [boxes, report, target, private], answer, js=BOXES, **asking)


def _welcome(desk: Desk, who: Visitor, repo: str, typed: str | None) -> tuple[Any, ...]:
    """What the form holds to begin with: the repo that the address names, and the accounts to publish to. What
    somebody has typed before we were there stays.
    """
    try:
        accounts = desk.namespaces(who)
    except PhimillError:
        accounts = ()  # without a token, or with the Hub away: what is asked for then says so
    first = next(iter(accounts), desk.settings.namespace)
    named = repo or gr.skip()
    return named, _search(desk, who, repo or typed or ""), gr.update(choices=list(accounts), value=first)


def _search(desk: Desk, who: Visitor, text: str) -> str:
    try:
        repos = desk.search(who, text)
        return str(verdict_view.found(repos, who.language)) if repos or text.strip() else ""
    except PhimillError as error:
        return str(complaint(error))


def _picked(event: gr.EventData) -> str:
    return str(getattr(event, "repo", ""))


def _check(desk: Desk, who: Visitor, repo: str, preset: str, target: str | None) -> tuple[Any, ...]:
    hidden, shown = gr.update(visible=False), gr.update(visible=True)
    if not repo.strip():
        return None, (), "", "", hidden, hidden, "", ""
    try:
        report = desk.check(who, repo, target or None)
    except PhimillError as error:
        return None, (), str(complaint(error)), "", hidden, hidden, "", ""
    given, may = offers(report, desk.settings), desk.may_build(who)
    chosen = ticked(given, preset)
    facts = verdict_view.facts(report.release, who.language) + verdict_view.grounds(report.verdicts, who.language)
    matrix = verdict_view.matrix(given, chosen, desk.settings.endpoint, who.language, choice=may)
    said = EMPTY if may else note(say(who.language, _why_not()), kind="good")
    return report, chosen, str(facts), str(matrix), shown if may else hidden, shown if may else hidden, "", str(said)


def _why_not() -> str:
    """What somebody is told who may not convert."""
    return "convert.signed_out" if can_sign_in() else "convert.no_sign_in"


def _preset(desk: Desk, who: Visitor, report: CheckReport | None, preset: str) -> tuple[Any, ...]:
    if report is None:
        return (), ""
    given = offers(report, desk.settings)
    chosen = ticked(given, preset)
    return chosen, str(verdict_view.matrix(given, chosen, desk.settings.endpoint, who.language, choice=True))


def _ticked(desk: Desk, who: Visitor, boxes: object, report: CheckReport | None) -> tuple[str, ...]:
    """Of what the browser says is ticked, what can be asked for."""
    return allowed(offers(report, desk.settings), boxes) if report and isinstance(boxes, list) else ()


def _preview(
    desk: Desk, who: Visitor, report: CheckReport | None, chosen: Sequence[str], target: str | None, private: bool
) -> str:
    """What the button would do: what it takes, and every repo, version and file that it would publish."""
    if report is None or not desk.may_build(who):
        return ""
    given: tuple[Offer, ...] = offers(report, desk.settings)
    said = verdict_view.total(given, chosen, who.language)
    if not chosen:
        return str(said)
    try:
        plan = desk.plan(who, _exactly(report), chosen, target or None, private=private)
    except PhimillError as error:
        return str(said + complaint(error))
    return str(said + _planned(plan, desk.settings.endpoint, who.language))


def _exactly(report: CheckReport) -> str:
    """The release that the verdict is about, at its commit."""
    return f"{report.release.repo}@{report.release.sha}"


def _planned(plan: Plan, endpoint: str, language: str) -> Markup:
    lines = []
    for one in (target for request in plan.builds for target in request.targets):
        files = [tag("code", recipe.file.format(m=plan.release.name)) for recipe in by_id(one.recipes)]
        name = tag("strong", say(language, "convert.version", repo=one.repo, version=one.version))
        lines.append(tag("li", name, tag("div", *(part for file in files for part in (file, " ")), cls="quiet small")))
    there = results(plan.results, endpoint, language) if plan.results else EMPTY
    if not lines:
        return note(say(language, "convert.nothing_to_do"), kind="good") + there
    return tag(
        "div", tag("h3", say(language, "convert.will_publish")), tag("ul", *lines, cls="plan"), there, cls="facts"
    )


def _convert(
    desk: Desk, who: Visitor, boxes: object, report: CheckReport | None, target: str | None, private: bool
) -> str:
    chosen = _ticked(desk, who, boxes, report)
    if report is None or not chosen:
        return str(note(say(who.language, "convert.choose"), kind="bad"))
    try:
        plan = desk.plan(who, _exactly(report), chosen, target or None, private=private)
        begun = desk.submit(who, plan)
    except PhimillError as error:
        return str(complaint(error))
    return str(_begun(begun, who.language))


def _begun(begun: Sequence[Build], language: str) -> Markup:
    if not begun:
        return note(say(language, "convert.nothing_to_do"), kind="good")
    parts: list[object] = [say(language, "convert.queued")]
    for build in begun:
        name = f"{build.request.backend} · {words.recipes(build.request.recipes, language)}"
        parts += [" ", tag("a", name, href=link_to(build=words.short(build.id)))]
    return note(*parts, kind="good")
