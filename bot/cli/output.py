"""Where words go: data to stdout, everything else to stderr, and both as JSON where that was asked for."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from bot.errors import PhimillError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType

PIPE_WIDTH = 240  # columns, where nobody's terminal says how many there are
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


class Format(StrEnum):
    HUMAN = "human"
    JSON = "json"


FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="How to print the answer: human or json.", show_default=False),
]


def plain(text: object) -> str:
    """`text` without what a terminal would obey: control characters and marks that reorder what is read."""
    return "".join(
        "\ufffd" if c in _BIDI or (unicodedata.category(c) == "Cc" and c not in "\n\t") else c for c in str(text)
    )


class Output:
    """The output of one run of the command line."""

    def __init__(self) -> None:
        self.format = Format.HUMAN
        self.again = "phimill"

    @classmethod
    def of(cls, context: typer.Context, format: Format | None = None) -> Output:
        """This run's output, in the format that the command itself was given, if it was given one."""
        output = context.ensure_object(cls)
        if format is not None:
            output.format = format
        return output

    @property
    def json(self) -> bool:
        return self.format is Format.JSON

    @property
    def terminal(self) -> Console:
        """Where data goes."""
        return _console(sys.stdout)

    @property
    def messages(self) -> Console:
        """Where progress, hints and errors go."""
        return _console(sys.stderr)

    def answer(self, value: BaseModel | dict[str, Any] | list[Any], shown: Callable[[], RenderableType]) -> None:
        """Print the answer: `value` as one JSON document, or what `shown` makes of it."""
        if self.json:
            print(json.dumps(as_json(value), indent=2, ensure_ascii=False))
        else:
            self.terminal.print(shown())

    def say(self, text: str, style: str = "") -> None:
        """Tell the person something that is not the answer."""
        from rich.text import Text

        self.messages.print(Text(plain(text), style=style))

    def error(self, error: PhimillError) -> None:
        """One sentence saying what is wrong, one saying what to do."""
        from rich.text import Text

        if self.json:
            wrong = {"code": error.code, "message": error.message, "hint": error.hint}
            print(json.dumps({"error": wrong}, ensure_ascii=False), file=sys.stderr)
            return
        words = Text.assemble(("Error: ", "bold red"), plain(error.message))
        if error.hint:
            words.append(f"\n{plain(error.hint)}", style="dim")
        self.messages.print(words)


def as_json(value: Any) -> Any:
    """`value` with every model in it turned into plain data."""
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)
