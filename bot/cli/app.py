"""The app that every command is added to, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from bot import VERSION
from bot.cli.output import FormatOption, Output
from bot.errors import UsageError

if TYPE_CHECKING:
    from bot.mill import Mill
    from bot.settings import Settings

app = typer.Typer(
    name="phimill",
    help="Convert Microsoft Phi releases, prove every artifact against its source, publish it to the Hub.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RepoArgument = Annotated[
    str,
    typer.Argument(metavar="REPO[@REV]", help="A model repo on the Hub, optionally at a branch, tag or commit."),
]
BuildArgument = Annotated[str, typer.Argument(metavar="BUILD", help="A build's id, or the beginning of it.")]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--to", metavar="NAMESPACE", help="Where to publish. Default: the bot's own namespace."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"phimill {VERSION}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    format: FormatOption = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    Output.of(context, format)


def read_settings() -> Settings:
    """This process's settings.

    Raises:
        UsageError: one of the environment's PHIMILL_ variables is not what it should be.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from bot.settings import get_settings

    try:
        return get_settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(["PHIMILL", *map(str, first["loc"][:1])]).upper()
        raise UsageError(f"{name}: {first['msg']}.", "Change it or unset it.") from error
    except SettingsError as error:
        raise UsageError(f"The settings cannot be read: {error}.", "Lists are written as JSON.") from error


@contextmanager
def opened_mill() -> Iterator[Mill]:
    """The mill of this process's settings, closed at the end. Imported late: --help must not wait for it."""
    from bot.mill import Mill

    mill = Mill(read_settings())
    try:
        yield mill
    finally:
        mill.close()
