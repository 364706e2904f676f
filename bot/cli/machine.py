"""`phimill setup`, `doctor` and `recipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import read_settings
from bot.cli.output import FormatOption, Output
from bot.cli.stopping import resumable

if TYPE_CHECKING:
    from rich.table import Table

commands = typer.Typer()


@commands.command()
def setup(
    context: typer.Context,
    backend: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BACKEND]...", help="Default: every backend.", show_default=False),
    ] = None,
    torch_backend: Annotated[
        str | None,
        typer.Option(
            "--torch-backend",
            help="uv's --torch-backend; the locks fit cpu.",
            show_default=False,
        ),
    ] = None,
    format: FormatOption = None,
) -> None:
    """Make the backends' Python environments now instead of at the first build."""
    from bot import toolchain

    output = Output.of(context, format)
    settings = read_settings()
    if torch_backend is not None:
        settings = settings.model_copy(update={"torch_backend": torch_backend})
    made: list[dict[str, object]] = []
    with resumable(output):
        for name in backend or toolchain.backends():
            found = toolchain.ensure(name, on_progress=output.say, settings=settings)
            made.append({"backend": name, "path": str(found.path), "versions": dict(found.versions)})
    output.answer(made, lambda: _ready(made))


@commands.command()
def doctor(context: typer.Context, format: FormatOption = None) -> None:
    """Look at the machine, the toolchains and the Hub, and say what stands in the way.

    Exits with 1 when something does.
    """
    from bot.cli import render
    from bot.doctor import examine

    output = Output.of(context, format)
    report = examine(read_settings())
    output.answer(report, lambda: render.doctor(report))
    raise typer.Exit(1 if report.problems else 0)


@commands.command()
def recipes(context: typer.Context, format: FormatOption = None) -> None:
    """List every recipe: what can be made, how large, and what it suits."""
    from bot.cli import render
    from bot.recipes import all_recipes

    known = all_recipes()
    Output.of(context, format).answer(list(known), lambda: render.recipes(known))


def _ready(made: list[dict[str, object]]) -> Table:
    from bot.cli.render import cell, table

    shown = table("backend", "environment")
    for one in made:
        shown.add_row(cell(one["backend"]), cell(one["path"]))
    return shown
