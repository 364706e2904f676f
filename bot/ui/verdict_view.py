"""What can be made of a release as HTML: backends x precisions, with reasons, cost, and a box to tick."""

from __future__ import annotations

from collections.abc import Container, Sequence

from markupsafe import Markup

from bot.models import Release, Verdict
from bot.offer import PRECISIONS, Offer, cost
from bot.recipes import backends
from bot.search import Found
from bot.ui import words
from bot.ui.address import link_to
from bot.ui.language import say
from bot.ui.markup import EMPTY, chip, link, note, tag

# What is picked is told to the page: a repo of a search, or that a box was ticked.
CHOOSE = """
element.addEventListener('click', event => {
  const found = event.target.closest('[data-repo]');
  if (!found || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger('pick', {repo: found.dataset.repo});
});
"""
TICK = """
element.addEventListener('change', event => {
  if (event.target.matches('input[data-recipe]')) trigger('pick', {});
});
"""


def found(repos: Sequence[Found], language: str) -> Markup:
    """What a search found, each a link that also works without script."""
    if not repos:
        return note(say(language, "convert.nothing_found"))
    parts = [
        tag("li", tag("a", one.repo, _release_mark(one, language), href=link_to(repo=one.repo), data_repo=one.repo))
        for one in repos
    ]
    return tag("ul", *parts, cls="found", aria_label=say(language, "convert.found"))


def _release_mark(one: Found, language: str) -> Markup:
    return chip(say(language, "convert.release"), "done") if one.release else EMPTY


def facts(release: Release, language: str) -> Markup:
    """Which release it is."""
    told = (release.architecture, words.parameters(release.parameters, language), release.dtype)
    size = words.size(release.weight_bytes)
    return tag(
        "div",
        tag("h2", f"{release.repo}@{release.sha[:7]}"),
        tag("div", ", ".join(told), ", ", size, cls="quiet"),
        cls="facts",
    )


def grounds(given: Sequence[Verdict], language: str) -> Markup:
    """Why verdicts are as they are, once for all that share the reason."""
    reasons = words.grounds(given, language)
    if not reasons:
        return EMPTY
    notes = [
        note(tag("strong", names), ": ", why, *(tag("div", link(url, url)) for url in links))
        for names, why, links in reasons
    ]
    return tag("details", tag("summary", say(language, "convert.reasons")), *notes, cls="reasons")


def matrix(given: Sequence[Offer], chosen: Container[str], endpoint: str, language: str, *, choice: bool) -> Markup:
    """Backends x precisions. With `choice` each recipe that can be asked for has a box, ticked where it is chosen."""
    there = [precision for precision in PRECISIONS if any(o.recipe.precision is precision for o in given)]
    heads = [tag("th", _precision(one, language), scope="col") for one in there]
    rows = []
    for backend in dict.fromkeys(offer.recipe.backend for offer in given):
        own = [offer for offer in given if offer.recipe.backend == backend]
        cells = [
            tag(
                "td",
                *(_offer(o, chosen, endpoint, language, choice=choice) for o in own if o.recipe.precision is one),
                data_head=_precision(one, language),
            )
            for one in there
        ]
        rows.append(tag("tr", tag("th", backends()[backend].title, scope="row"), *cells))
    head = tag("tr", tag("th", say(language, "convert.backend"), scope="col"), *heads)
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), cls="grid matrix", tabindex="0")


def _precision(one: object, language: str) -> str:
    return say(language, "convert.other") if str(one) == "other" else str(one)


def _offer(offer: Offer, chosen: Container[str], endpoint: str, language: str, *, choice: bool) -> Markup:
    recipe, verdict, needs = offer.recipe, offer.verdict, offer.verdict.needs
    name = tag("span", recipe.title)
    if choice and offer.open:
        ticked = "checked" if recipe.id in chosen else None
        box = tag("input", type="checkbox", data_recipe=recipe.id, checked=ticked)
        name = tag("label", box, name)
    figures = (
        (words.size(needs.output), words.minutes(needs.minutes, language), words.size(needs.memory)) if needs else ()
    )
    told = say(language, "convert.figures", size=figures[0], time=figures[1], memory=figures[2]) if figures else ""
    parts = [name, chip(words.verdict(verdict.status, language), verdict.status.value)]
    if offer.open:
        parts.append(tag("div", told, cls="quiet small"))
    else:
        parts.append(tag("div", " ".join((*verdict.reasons, *verdict.lacks)), cls="quiet small why"))
    if offer.tag and offer.repo:
        url = f"{endpoint}/{offer.repo}/tree/{offer.tag}"
        parts.append(tag("div", link(say(language, "convert.there", tag=offer.tag), url), cls="small"))
    return tag("div", *parts, cls="offer")


def total(given: Sequence[Offer], chosen: Sequence[str], language: str) -> Markup:
    """What is chosen takes together."""
    if not chosen:
        return note(say(language, "convert.choose"))
    minutes, size = cost(given, chosen)
    time = words.minutes(minutes, language)
    return note(say(language, "convert.total", count=len(chosen), time=time, size=words.size(size)))
