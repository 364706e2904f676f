"""Builds as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from markupsafe import Markup

from bot.builds import Build, LogLine, Phase, Progress, VariantResult
from bot.course import STAGES, Leg, State, course, fetched
from bot.ui import words
from bot.ui.address import link_to
from bot.ui.language import say
from bot.ui.markup import EMPTY, chip, grid, link, note, row, tag


def listing(builds: Sequence[Build], paused: bool, endpoint: str, language: str) -> Markup:
    """The queue and what came before, newest first."""
    said = note(say(language, "builds.paused"), kind="bad") if paused else EMPTY
    if not builds:
        return said + note(say(language, "builds.none"))
    heads = [say(language, f"builds.head_{name}") for name in ("build", "source", "makes", "state", "now", "asked")]
    return said + grid(heads, (_listed(build, endpoint, language) for build in builds))


def _listed(build: Build, endpoint: str, language: str) -> Markup:
    request, name = build.request, words.short(build.id)
    return row(
        tag("a", tag("code", name), href=link_to(build=name), title=say(language, "builds.open", name=name)),
        _source(build, endpoint),
        tag("div", request.backend, tag("div", words.recipes(request.recipes, language), cls="quiet small")),
        chip(words.phase(build.phase, language), build.phase.value),
        _standing(build, language),
        tag("span", words.ago(build.created, language=language), cls="quiet small number"),
        data_build=name,
    )


def _source(build: Build, endpoint: str) -> Markup:
    request = build.request
    url = f"{endpoint}/{request.repo}/tree/{request.sha}"
    return tag("div", link(request.repo, url), tag("div", request.sha[:7], cls="quiet small"))


def _standing(build: Build, language: str) -> Markup:
    """What a build is doing, with a bar while it runs."""
    bar = _bar(build.progress, language) if build.phase is Phase.RUNNING and build.progress else EMPTY
    return tag("div", words.outcome(build, language), bar, cls="narrow")


def _bar(progress: Progress, language: str) -> Markup:
    """How far the stage is: percent, bytes, what is left, and the memory that it holds."""
    percent = progress.percent
    share = f"{percent:.0f} %" if percent is not None else ""
    held = say(language, "builds.memory", memory=words.size(progress.memory)) if progress.memory else ""
    figures = (share, words.amount(progress, language), words.left(progress.eta, language), held)
    told = tag("div", " · ".join(filter(None, figures)), cls="quiet small")
    if percent is None:
        return told + tag("div", tag("div"), cls="bar endless")
    return told + tag("div", tag("div", style=f"width: {percent:.1f}%"), cls="bar")


def back(language: str) -> Markup:
    """The way from one build to the list."""
    return tag("a", say(language, "builds.all"), href=link_to(tab="builds"), data_build="", cls="back")


def details(build: Build, steps: Sequence[str], tier: str, endpoint: str, language: str) -> Markup:
    """Everything about one build but its log and how to get what it made."""
    request = build.request
    key = "builds.asked_by_person" if build.person else "builds.asked_by_watcher"
    ago, target = words.ago(build.created, language=language), words.targets(request, language)
    parts = [
        tag("h2", link(words.source(request), f"{endpoint}/{request.repo}/tree/{request.sha}")),
        tag("p", say(language, key, backend=request.backend, target=target, ago=ago), cls="quiet"),
        tag("p", chip(words.phase(build.phase, language), build.phase.value), " ", words.outcome(build, language)),
    ]
    if build.phase is Phase.RUNNING:
        bar = _bar(build.progress, language) if build.progress else EMPTY
        parts.append(tag("div", bar, cls="going", aria_live="off"))
    if build.failure:
        parts.append(note(tag("strong", build.failure.message), " ", build.failure.hint, kind="bad"))
    parts.append(stages(build, steps, language))
    if build.results:
        parts.append(results(build.results, endpoint, language))
    if not build.over:
        parts.append(tag("p", say(language, "builds.sandbox", tier=tier), cls="quiet small"))
    return tag("div", *parts, cls="facts")


def stages(build: Build, steps: Sequence[str], language: str) -> Markup:
    """Where each variant is between its source and its repo."""
    legs = course(build, steps)
    if not legs:
        return EMPTY
    there = fetched(build, steps)
    heads = [
        say(language, "builds.head_variant"),
        *(say(language, f"builds.stage_{s}") for s in ("fetch", *STAGES)),
    ]
    return grid(heads, map(partial(_leg, there, language), legs))


def _leg(there: State, language: str, leg: Leg) -> Markup:
    why = tag("div", say(language, "builds.to_measure"), cls="quiet small") if leg.measure else EMPTY
    shown = ("fetch", "convert", "prove") if leg.measure else ("fetch", *STAGES)
    cells = [_state({"fetch": there, **leg.states}[stage], language) for stage in shown]
    return row(tag("div", tag("code", leg.recipe), why), *cells, *[""] * (1 + len(STAGES) - len(cells)))


def _state(state: State, language: str) -> Markup:
    return chip(say(language, f"builds.state_{state}"), state)


def results(ended: Sequence[VariantResult], endpoint: str, language: str) -> Markup:
    """How each variant ended."""
    heads = [say(language, f"builds.head_{name}") for name in ("variant", "result", "size", "kl", "top1", "where")]
    return grid(heads, (_result(one, endpoint, language) for one in ended))


def _result(ended: VariantResult, endpoint: str, language: str) -> Markup:
    place = words.where(ended)
    url = f"{endpoint}/{ended.repo}/tree/{ended.tag or 'main'}" if place else None
    return row(
        ended.recipe,
        chip(words.result(ended.status, language), ended.status),
        tag("span", words.size(ended.bytes), cls="number"),
        tag("span", words.nats(ended.kl_mean), cls="number"),
        tag("span", words.share(ended.top1), cls="number"),
        link(place, url) if place else tag("span", ended.reason, cls="quiet small narrow"),
    )


def log(lines: Sequence[LogLine], language: str) -> Markup:
    """The end of a build's log."""
    if not lines:
        return EMPTY
    said = tag("div", *(_line(line) for line in lines))
    return tag(
        "div", said, cls="log", tabindex="0", role="log", aria_label=say(language, "builds.log"), aria_live="off"
    )


def _line(line: LogLine) -> Markup:
    said = tag("span", words.said(line), cls=line.level if line.level in ("warning", "error") else None)
    return tag("div", tag("span", f"{line.at:%H:%M:%S} ", cls="at"), tag("span", line.stage, " ", cls="stage"), said)
