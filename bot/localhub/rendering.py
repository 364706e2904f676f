"""A model card as safe HTML. The card is anybody's text: what could run, frame or restyle is taken out."""

from __future__ import annotations

import re
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#", re.IGNORECASE)
_ATTRIBUTES = {
    **{tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()},
    "img": {"src", "alt", "title", "width", "height"},
    "code": {"class"},
}


def render(markdown: str, files_url: str, pages_url: str) -> str:
    """Return sanitised HTML of a card.

    Relative images are read from `files_url`, relative links lead below `pages_url`; both end in a slash.
    """

    def attribute(tag: str, name: str, value: str) -> str | None:
        if name == "class":
            return value if value.startswith("language-") else None
        if (tag, name) in (("img", "src"), ("a", "href")) and not _ABSOLUTE.match(value.strip()):
            path, mark, rest = value.strip().lstrip("/").partition("#")
            base = files_url if name == "src" else pages_url
            return base + quote(path, safe="/%?&=") + mark + rest
        return value

    return nh3.clean(
        _MARKDOWN.render(markdown),
        tags=nh3.ALLOWED_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
