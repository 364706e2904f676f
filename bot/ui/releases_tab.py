"""Every watched release, and where each of its variants stands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from bot.errors import PhimillError
from bot.ui import words
from bot.ui.markup import PLAIN, chip, complaint, grid, link, note, row, tag
from bot.ui.recent import Recent

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.mill import ReleaseRow

REFRESH_SECONDS = 30.0


def releases_tab(desk: Desk, page: gr.Blocks) -> None:
    """Fill the tab, and keep it up to date."""
    recent = Recent(desk.releases, REFRESH_SECONDS / 2)
    table = gr.HTML(str(note("Looking at the Hub…")), **PLAIN)
    look = partial(_look, recent, desk.settings.endpoint)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.load(look, None, table, **quiet)
    gr.Timer(REFRESH_SECONDS).tick(look, None, table, **quiet)


def _look(recent: Recent[tuple[ReleaseRow, ...]], endpoint: str) -> str:
    try:
        return str(releases(recent.get(), endpoint))
    except PhimillError as error:
        return str(complaint(error))


def releases(rows: Sequence[ReleaseRow], endpoint: str) -> Markup:
    """One line per release and backend, with a label per recipe."""
    if not rows:
        return note("No Phi release found in the watched organisations.")
    together = groupby(rows, key=lambda r: (r.repo, r.sha, r.recipe.split("/")[0]))
    heads = ("Release", "Backend", "Variants")
    return grid(heads, (_line(repo, sha, backend, list(own), endpoint) for (repo, sha, backend), own in together))


def _line(repo: str, sha: str, backend: str, rows: Sequence[ReleaseRow], endpoint: str) -> Markup:
    source = tag("div", link(repo, f"{endpoint}/{repo}/tree/{sha}"), tag("div", sha[:7], cls="quiet small"))
    reasons = {r.detail: None for r in rows if r.detail and r.state in ("refused", "failed")}
    why = [tag("div", text, cls="quiet small narrow") for text in reasons]
    return row(source, backend, tag("div", tag("div", *map(_variant, rows), cls="chips"), *why))


def _variant(variant: ReleaseRow) -> Markup:
    name = variant.recipe.split("/", 1)[-1]
    told = [
        variant.state,
        variant.tag,
        f"mean KL {words.nats(variant.kl)}" if variant.kl is not None else None,
    ]
    title = ", ".join(filter(None, (*told, variant.detail)))
    label = f"{name} {variant.tag}" if variant.state == "published" else f"{name}: {variant.state}"
    return chip(link(label, variant.url), variant.state, title)
