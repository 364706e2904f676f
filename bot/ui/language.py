"""The page's own words, in every language it speaks. They are data: one file per page in `texts/`.

What a component shows by itself (a label, a button) is translated in the browser, by Gradio; what we write as HTML is
translated here, for the language that the visitor's browser asks for.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr
    from gradio.i18n import I18nData

ENGLISH = "en"
LANGUAGES = (ENGLISH, "nl", "es", "he", "th", "ja")
RIGHT_TO_LEFT = frozenset({"he"})
TEXTS = Path(__file__).with_name("texts")


@cache
def texts() -> dict[str, dict[str, str]]:
    """Every text, by key (`page.tab_builds`: file and table) and language."""
    return {
        f"{file.stem}.{name}": spelled
        for file in sorted(TEXTS.glob("*.toml"))
        for name, spelled in tomllib.loads(file.read_text("utf-8")).items()
    }


def say(language: str, key: str, **values: object) -> str:
    """The text in this language, with its `{values}` filled in. Not escaped: it is text, not markup."""
    spelled = texts()[key]
    return spelled.get(language, spelled[ENGLISH]).format(**values)


def label(key: str) -> I18nData:
    """The text for a component's label, which the browser translates. It can have no values."""
    from gradio.i18n import I18nData

    if key not in texts():
        raise KeyError(key)
    return I18nData(key)


def translations() -> gr.I18n:
    """All texts in the form that Gradio sends to the browser."""
    import gradio as gr

    return gr.I18n(**{code: {key: say(code, key) for key in _without_values()} for code in LANGUAGES})


def _without_values() -> list[str]:
    return [key for key, spelled in texts().items() if "{" not in spelled[ENGLISH]]


def preferred(accept_language: str) -> str:
    """The first language of an `Accept-Language` header, by its weights, that the page speaks (RFC 9110, 12.5.4)."""
    wanted = []
    for at, part in enumerate(accept_language.split(",")[:20]):
        code, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((-float(weight or 1), at, code.split("-")[0].lower()))
        except ValueError:
            continue
    return next((code for _, _, code in sorted(wanted) if code in LANGUAGES), ENGLISH)
