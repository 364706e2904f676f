"""`phimill status`, `logs`, `cancel`, `retry`, `pause` and `resume`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import BuildArgument, opened_mill
from bot.cli.output import FormatOption, Output

if TYPE_CHECKING:
    from bot.builds import Build

FOLLOW_SECONDS = 0.5

commands = typer.Typer()


@commands.command()
def status(
    context: typer.Context,
    build: Annotated[
        str | None,
        typer.Argument(metavar="[BUILD]", help="A build's id, or the beginning of it.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many builds to list.")] = 20,
    format: FormatOption = None,
) -> None:
    """List the newest builds, or show one of them."""
    from bot.cli import render

    output = Output.of(context, format)
    with opened_mill() as mill:
        if build is not None:
            one = mill.build(build)
            output.answer(one, lambda: render.build(one))
            return
        listed, paused = mill.builds(limit), mill.paused
    output.answer({"paused": paused, "builds": listed}, lambda: render.builds(listed, paused))


@commands.command()
def logs(
    context: typer.Context,
    build: BuildArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the build is over.")] = False,
    format: FormatOption = None,
) -> None:
    """Print what a build said. As JSON: one object per line."""
    from bot.cli.progress import log_line

    output = Output.of(context, format)
    with opened_mill() as mill:
        wanted, seen = mill.build(build).id, 0
        while True:
            over = mill.build(wanted).over
            for line in mill.log(wanted, seen):
                seen = line.number
                if output.json:
                    print(line.model_dump_json(), flush=True)
                else:
                    output.terminal.print(log_line(line), soft_wrap=True)
            if over or not follow:
                return
            time.sleep(FOLLOW_SECONDS)


@commands.command()
def cancel(context: typer.Context, build: BuildArgument, format: FormatOption = None) -> None:
    """Stop a build for good. Its converter is gone within two seconds; what was published stays."""
    output = Output.of(context, format)
    with opened_mill() as mill:
        _answer(output, mill.cancel(build))


@commands.command()
def retry(context: typer.Context, build: BuildArgument, format: FormatOption = None) -> None:
    """Begin a failed or cancelled build again, going on from what it had finished."""
    output = Output.of(context, format)
    with opened_mill() as mill:
        begun = mill.retry(build)
        _answer(output, begun)
        if not mill.others_working():
            output.say("Nobody is taking builds now; `phimill up` or `phimill watch` does.")


@commands.command()
def pause(context: typer.Context) -> None:
    """Let no build begin another step, in any process of this mill, until `phimill resume`."""
    with opened_mill() as mill:
        mill.pause()
    Output.of(context).say("Paused. `phimill resume` lets builds go on.")


@commands.command()
def resume(context: typer.Context) -> None:
    """Let builds go on after `phimill pause`."""
    with opened_mill() as mill:
        mill.resume()
    Output.of(context).say("Builds go on.")


def _answer(output: Output, build: Build) -> None:
    from bot.cli import render

    output.answer(build, lambda: render.build(build))
