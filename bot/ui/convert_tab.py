"""The form: what can be made of a release, and where people may, a request to make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.errors import PhimillError
from bot.recipes import all_recipes
from bot.ui import words
from bot.ui.access import people_may_build
from bot.ui.asking import asked
from bot.ui.build_view import results
from bot.ui.markup import EMPTY, PLAIN, chip, complaint, grid, link, note, row, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.desk import Desk
    from bot.mill import Plan
    from bot.models import Release, Verdict
    from bot.visitor import Visitor

ONLY_CHECKS = (
    "This page has no sign-in, so it checks releases but does not convert on request. What the watched "
    "organisations release is converted without asking. For anything else, run phimill yourself, with your "
    "own token: phimill convert OWNER/NAME --to YOUR-NAME."
)


def convert_tab(desk: Desk) -> None:
    """Fill the tab."""
    allowed = people_may_build(desk.settings)
    if not allowed:
        gr.HTML(str(note(ONLY_CHECKS)), **PLAIN)
    repo = gr.Textbox(label="Model repo on the Hub", placeholder="microsoft/Phi-4-mini-instruct", max_length=200)
    with gr.Group(visible=allowed):
        known = all_recipes()
        chosen = gr.CheckboxGroup(
            [(f"{recipe.title} · {recipe.id}", recipe.id) for recipe in known],
            value=[recipe.id for recipe in known if recipe.default],
            label="Recipes",
        )
        target = gr.Textbox(
            label="Publish to",
            value=desk.settings.namespace or "",
            placeholder="your token's own account",
            max_length=96,
        )
    with gr.Row():
        check = gr.Button("Check", scale=0, min_width=160)
        convert = gr.Button("Convert", variant="primary", visible=allowed, scale=0, min_width=160)
    answer = gr.HTML(**PLAIN)
    seen: dict[str, Any] = {"show_progress_on": answer, "api_visibility": "private", "concurrency_limit": 2}
    gr.on([check.click, repo.submit], asked(desk, _check), repo, answer, **seen)
    if allowed:
        convert.click(asked(desk, _convert), [repo, chosen, target], answer, **seen)


def _check(desk: Desk, who: Visitor, repo: str) -> str:
    try:
        report = desk.check(who, repo)
    except PhimillError as error:
        return str(complaint(error))
    return str(_release(report.release) + verdicts(report.verdicts, report.published))


def _convert(desk: Desk, who: Visitor, repo: str, chosen: list[str], target: str) -> str:
    if not chosen:
        return str(note("Choose at least one recipe.", kind="bad"))
    try:
        plan = desk.plan(who, repo, chosen, target.strip() or None)
        begun = desk.submit(who, plan)
    except PhimillError as error:
        return str(complaint(error))
    return str(_begun(plan, [build.id for build in begun], desk.settings.endpoint))


def _begun(plan: Plan, ids: Sequence[str], endpoint: str) -> Markup:
    if ids:
        names = ", ".join(map(words.short, ids))
        said = note(f"Build {names} is in the queue; the Builds tab shows how it goes.", kind="good")
    else:
        said = note("There is nothing to build.", kind="good")
    there = results(plan.results, endpoint) if plan.results else EMPTY
    return said + _release(plan.release) + verdicts(plan.verdicts, {}) + there


def _release(found: Release) -> Markup:
    facts = f"{found.architecture}, {words.parameters(found.parameters)}, {found.dtype}, "
    size = words.size(found.weight_bytes)
    return tag("div", tag("h3", f"{found.repo}@{found.sha[:7]}"), tag("div", facts, size, cls="quiet"), cls="facts")


def verdicts(given: Sequence[Verdict], published: dict[str, str]) -> Markup:
    """What can be made of a release, what it would cost, and why some of it cannot."""
    heads = ("Recipe", "Verdict", "Size", "Memory", "Time", "There as")
    return _grounds(given) + grid(heads, (_verdict(verdict, published.get(verdict.recipe)) for verdict in given))


def _grounds(given: Sequence[Verdict]) -> Markup:
    return EMPTY.join(
        note(tag("strong", names), ": ", reasons, *(tag("div", link(url, url)) for url in links))
        for names, reasons, links in words.grounds(given)
    )


def _verdict(verdict: Verdict, tagged: str | None) -> Markup:
    needs = verdict.needs
    return row(
        verdict.recipe,
        chip(words.VERDICT_WORDS[verdict.status], verdict.status.value),
        tag("span", words.size(needs.output) if needs else "", cls="number"),
        tag("span", words.size(needs.memory) if needs else "", cls="number"),
        tag("span", words.minutes(needs.minutes) if needs else "", cls="number"),
        tagged,
    )
