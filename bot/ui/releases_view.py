"""The dashboard as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import groupby

from markupsafe import Markup

from bot.errors import PhimillError
from bot.releases import ReleaseRow
from bot.ui import words
from bot.ui.address import link_to
from bot.ui.board import PER_PAGE, Shown
from bot.ui.language import say
from bot.ui.markup import EMPTY, chip, complaint, grid, link, note, tag

# States whose reasons are spelled out below the labels.
EXPLAINED = ("failed", "refused", "stale", "unsuited")
KEPT = 4096  # releases as drawn, some 4 kB each


def listing(shown: Shown, language: str, endpoint: str) -> Markup:
    """One page of releases: one line per release and backend, with a label per recipe."""
    if not shown.found:
        return note(say(language, "releases.nothing_matches"))
    heads = [say(language, f"releases.head_{name}") for name in ("release", "backend", "variants", "changed")]
    first = (shown.page - 1) * PER_PAGE + 1
    counts = {"first": first, "last": first + len(shown.releases) - 1, "found": f"{shown.found:,}"}
    states = (f"{say(language, f'releases.state_{name}')} {count:,}" for name, count in shown.states.items())
    told = tag("div", say(language, "releases.shown", **counts), " · ", " · ".join(states), cls="quiet small tally")
    lines = [_release(own, language, endpoint) for own in shown.releases]
    return told + grid(heads, lines)


def none_yet(watched: Sequence[str], language: str) -> Markup:
    """Where nothing is watched that has a Phi."""
    return note(say(language, "releases.none", watched=", ".join(watched)))


def looking(language: str) -> Markup:
    """Before the first answer."""
    return note(say(language, "releases.looking"), kind="quiet loading")


def trouble(error: PhimillError, age: float | None, language: str) -> Markup:
    """Why there is nothing newer to show, and how old is what is shown, if something is."""
    if age is None:
        return complaint(error)
    minutes = max(1, round(age / 60))
    return complaint(error) + note(say(language, "releases.old", minutes=minutes))


@lru_cache(KEPT)  # a new look at the Hub finds most releases as they were
def _release(rows: tuple[ReleaseRow, ...], language: str, endpoint: str) -> Markup:
    """The lines of one release; its name stands in the first one alone, for the eye, and in all for a reader."""
    backends = [list(own) for _, own in groupby(rows, key=lambda each: each.recipe.split("/")[0])]
    repo, sha = rows[0].repo, rows[0].sha
    compare = tag("a", say(language, "releases.compare"), href=link_to(compare=repo))
    name = tag("div", link(repo, f"{endpoint}/{repo}/tree/{sha}"))
    below = tag("div", sha[:7], " · ", compare, cls="quiet small")
    head = tag("th", name, below, scope="rowgroup", rowspan=len(backends))
    return EMPTY.join(
        tag("tr", head if number == 0 else EMPTY, *_line(own, language), cls="first" if number == 0 else None)
        for number, own in enumerate(backends)
    )


def _line(rows: Sequence[ReleaseRow], language: str) -> list[Markup]:
    reasons: dict[str, list[str]] = {}
    for each in rows:
        if each.detail and each.state in EXPLAINED:
            reasons.setdefault(each.detail, []).append(_short(each))
    why = [tag("div", f"{', '.join(names)}: {text}", cls="quiet small narrow") for text, names in reasons.items()]
    changed = max((each.date for each in rows if each.date is not None), default=None)
    labels = tag("div", *map(partial(_variant, language), rows), cls="chips")
    return [
        tag("td", rows[0].recipe.split("/")[0]),
        tag("td", labels, *why),
        tag("td", f"{changed:%Y-%m-%d}" if changed else "", cls="number"),
    ]


def _variant(language: str, variant: ReleaseRow) -> Markup:
    state = say(language, f"releases.state_{variant.state}")
    figures = filter(None, (variant.tag, f"KL {words.nats(variant.kl)}" if variant.kl is not None else None))
    said = " · ".join(figures) if variant.state == "published" else state
    text = f"{_short(variant)} {said}"
    # A build is shown on this page, a variant on the Hub.
    shown = tag("a", text, href=link_to(build=variant.build)) if variant.build else link(text, variant.url)
    told = (state, variant.tag, f"{variant.date:%Y-%m-%d}" if variant.date else None, variant.detail)
    return chip(shown, variant.state, ", ".join(filter(None, told)))


def _short(variant: ReleaseRow) -> str:
    return variant.recipe.split("/", 1)[-1]
