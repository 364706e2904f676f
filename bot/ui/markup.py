"""HTML in which nothing from outside can become markup: text is escaped unless it is `Markup` already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

from bot.errors import PhimillError

EMPTY = Markup()
# How a `gr.HTML` is made that shows ours: our own style sheet says how it looks.
PLAIN: dict[str, Any] = {"padding": False, "apply_default_css": False, "elem_classes": "mill"}


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """One element. `cls` is the class; underscores become dashes; attributes that are None are left out.

    The names of elements and attributes come from our own code; everything else is escaped.
    """
    # Plain strings until the end: a page of the dashboard has thousands of these.
    spelled = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(str(escape(child)) for child in children if child is not None)
    return Markup(f"<{name}{spelled}>{inner}</{name}>")  # noqa: S704


def link(text: object, url: str | None) -> Markup:
    """A link that opens beside the page; plain text when there is no URL or it is no web address."""
    if url is None or not url.startswith(("https://", "http://")):
        return escape(text)
    return tag("a", text, href=url, target="_blank", rel="noopener noreferrer")


def chip(text: object, kind: str, title: str | None = None) -> Markup:
    """A small coloured label. `kind` is one of the states that page.css knows."""
    return tag("span", text, cls=f"chip {kind}", title=title or None)


def grid(headings: Sequence[str], rows: Iterable[Markup]) -> Markup:
    """A table that scrolls sideways on a narrow screen."""
    head = tag("tr", *(tag("th", h, scope="col") for h in headings))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), cls="grid", tabindex="0")


def row(*cells: object, **attributes: object) -> Markup:
    return tag("tr", *(tag("td", cell) for cell in cells), **attributes)


def note(*children: object, kind: str = "quiet") -> Markup:
    """A sentence on its own."""
    return tag("p", *children, cls=f"note {kind}")


def complaint(error: PhimillError) -> Markup:
    """What is wrong, and what to do."""
    return note(tag("strong", error.message), " ", error.hint, kind="bad")
