"""Markdown escaping: whatever a value holds, it comes out as the text it is.

`environment()` escapes every printed value by itself, as autoescaping does for HTML: a template must say so
(`code`, `fence`, `Markup`) to print anything else. The target is GitHub-flavoured Markdown as CommonMark
specifies it, read after that by the Hub, which also renders HTML, autolinks, @mentions and $math$.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# Entities, never backslashes: they mean the same in Markdown, in a table cell (split before anything is
# unescaped) and in an HTML block (where Markdown is not read at all).
_SPECIAL = str.maketrans(
    {c: f"&#{ord(c)};" for c in "\\|`$@*~[]"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
)
# An underscore between two letters or digits cannot open or close emphasis; left alone, so that Q4_K_M
# stays readable.
_LOOSE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_AUTOLINK = re.compile(r":(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\.", re.IGNORECASE)
# "# ", "- ", "+ ", "===" and "1. " at the start of a line would make a block of it.
_BLOCK_START = re.compile(r"\A(\d{1,9}(?=[.)](?: |\Z)))?([#+=.)-])")
_PLAIN_CODE = re.compile(r"[^\s`|\\<>&$](?:[^`|\\<>&$]*[^\s`|\\<>&$])?")
_LANGUAGE = re.compile(r"[A-Za-z0-9+-]{1,20}")


def one_line(value: object) -> str:
    """The value's text on one line: runs of white space become one space, invisible characters go."""
    text = "".join(
        " " if c.isspace() or unicodedata.category(c) in ("Zl", "Zp") else c
        for c in str(value)
        if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Cn")
    )
    return " ".join(text.split())


def md(value: object) -> Markup:
    """Text for a paragraph, a list item or a table cell."""
    text = one_line(value).translate(_SPECIAL)
    text = _LOOSE_UNDERSCORE.sub("&#95;", text)
    text = _AUTOLINK.sub(lambda m: f"&#{ord(m[0])};", text)
    text = _BLOCK_START.sub(lambda m: f"{m[1] or ''}&#{ord(m[2])};", text)
    return Markup(text)  # noqa: S704 - this is the escaping


def code(value: object) -> Markup:
    """A code span. Text that could end the span or the table cell is escaped inside <code> instead."""
    text = one_line(value)
    # Only what is plain everywhere goes between backticks: a span knows no escapes, and a table cell ends
    # at any "|".
    return Markup(f"`{text}`" if _PLAIN_CODE.fullmatch(text) else f"<code>{md(text)}</code>")  # noqa: S704


def fence(value: object, language: str = "") -> Markup:
    """A fenced block, its fence longer than any run of backticks inside. Keeps line breaks and tabs."""
    text = re.sub(r"\r\n?", "\n", str(value))
    text = "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "\ufffd" for c in text
    ).rstrip("\n")
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return Markup(f"{ticks}{language if _LANGUAGE.fullmatch(language) else ''}\n{text}\n{ticks}")  # noqa: S704


def link(text: object, url: str) -> Markup:
    """A link whose address can neither end early nor leave its scheme."""
    return Markup(f"[{md(text)}]({quote(url, safe='/:.?=#~+@-_')})")  # noqa: S704


def shorten(value: str, length: int) -> str:
    """At most `length` characters, with an ellipsis where something was cut."""
    return value if len(value) <= length else value[: length - 1] + "…"


def size(count: int) -> str:
    """Bytes as the Hub shows them: decimal units."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def count(number: int) -> str:
    """A number of parameters: 3.82 billion, 6.2 million."""
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def kl(value: float | None) -> str:
    """A KL divergence with two significant digits, in one notation over all magnitudes: 1.5e-3."""
    if value is None:
        return "n/a"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _printed(value: Any) -> Any:
    return value if isinstance(value, Markup) else md(value)


def environment() -> Environment:
    """The environment every template is rendered in."""
    env = Environment(
        loader=PackageLoader("bot", "templates"),
        autoescape=True,
        finalize=_printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {
        "code": code,
        "count": count,
        "fence": fence,
        "kl": kl,
        "link": link,
        "shorten": shorten,
        "size": size,
    }
    return env
