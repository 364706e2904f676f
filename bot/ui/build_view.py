"""Builds as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from bot.builds import Build, LogLine, Phase, Progress, VariantResult
from bot.ui import words
from bot.ui.markup import EMPTY, chip, grid, link, note, row, tag


def listing(builds: Sequence[Build], paused: bool, picked: str, endpoint: str) -> Markup:
    """The queue and what came before, newest first."""
    said = note("The mill is paused: no build goes on until it is resumed.", kind="bad") if paused else EMPTY
    if not builds:
        return said + note("No builds yet. The watcher starts them, or the Convert tab does.")
    heads = ("Build", "Source", "Makes", "State", "", "Asked for")
    return said + grid(heads, (_listed(build, build.id == picked, endpoint) for build in builds))


def _listed(build: Build, picked: bool, endpoint: str) -> Markup:
    request = build.request
    return row(
        tag("button", tag("code", words.short(build.id)), type="button", title="Show this build"),
        _source(build, endpoint),
        tag("div", request.backend, tag("div", words.recipes(request.recipes), cls="quiet small")),
        chip(build.phase.value, build.phase.value),
        _standing(build),
        tag("span", words.ago(build.created), cls="quiet small number"),
        data_build=build.id,
        cls="picked" if picked else None,
    )


def _source(build: Build, endpoint: str) -> Markup:
    request = build.request
    url = f"{endpoint}/{request.repo}/tree/{request.sha}"
    return tag("div", link(request.repo, url), tag("div", request.sha[:7], cls="quiet small"))


def _standing(build: Build) -> Markup:
    """What a build is doing, with a bar while it runs."""
    bar = _bar(build.progress) if build.phase is Phase.RUNNING and build.progress else EMPTY
    return tag("div", words.outcome(build), bar, cls="narrow")


def _bar(progress: Progress) -> Markup:
    percent = progress.percent
    if percent is None:
        return tag("div", tag("div"), cls="bar endless")
    told = " · ".join(filter(None, (f"{percent:.0f} %", words.amount(progress), words.left(progress.eta))))
    filled = tag("div", tag("div", style=f"width: {percent:.1f}%"), cls="bar")
    return tag("div", told, cls="quiet small number") + filled


def details(build: Build, endpoint: str) -> Markup:
    """Everything about one build but its log."""
    request = build.request
    who = "a person" if build.person else "the watcher"
    target = f"{request.backend}, to {words.targets(request)}"
    parts = [
        tag("h3", words.source(request)),
        tag("div", target, f", asked for by {who} {words.ago(build.created)}.", cls="quiet"),
    ]
    if build.failure:
        parts.append(note(tag("strong", build.failure.message), " ", build.failure.hint, kind="bad"))
    if build.results:
        parts.append(results(build.results, endpoint))
    return tag("div", *parts, cls="facts")


def results(ended: Sequence[VariantResult], endpoint: str) -> Markup:
    """How each variant ended."""
    heads = ("Variant", "Result", "Size", "Mean KL", "Top-1", "Where")
    return grid(heads, (_result(result, endpoint) for result in ended))


def _result(result: VariantResult, endpoint: str) -> Markup:
    place = words.where(result)
    url = f"{endpoint}/{result.repo}/tree/{result.tag or 'main'}" if place else None
    return row(
        result.recipe,
        chip(words.RESULT_WORDS[result.status], result.status),
        tag("span", words.size(result.bytes), cls="number"),
        tag("span", words.nats(result.kl_mean), cls="number"),
        tag("span", words.share(result.top1), cls="number"),
        link(place, url) if place else tag("span", result.reason, cls="quiet small narrow"),
    )


def log(lines: Sequence[LogLine]) -> Markup:
    """The end of a build's log."""
    if not lines:
        return EMPTY
    said = tag("div", *(_line(line) for line in lines))
    return tag("div", said, cls="log", tabindex="0", role="log", aria_label="Build log")


def _line(line: LogLine) -> Markup:
    said = tag("span", words.said(line), cls=line.level if line.level in ("warning", "error") else None)
    return tag("div", tag("span", f"{line.at:%H:%M:%S} ", cls="at"), tag("span", line.stage, " ", cls="stage"), said)
