"""`phimill watch` and `phimill up`: what runs for days."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from bot import logs
from bot.cli.app import opened_mill
from bot.cli.output import FormatOption, Output
from bot.cli.stopping import resumable

if TYPE_CHECKING:
    from bot.builds import Build
    from bot.mill import Mill


commands = typer.Typer()


@commands.command()
def watch(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One round: look, build what is missing, and end.")] = False,
    format: FormatOption = None,
) -> None:
    """Look for new Phi releases and build what is missing, without a web page.

    With --once the exit code tells how the round went, as with `convert`.
    """
    output = Output.of(context, format)
    with opened_mill() as mill, resumable(output), mill.working():
        if once:
            code = _one_round(mill, output)
        else:
            orgs, seconds = ", ".join(mill.settings.watch), mill.settings.poll_seconds
            logs.for_services(mill.settings)
            output.say(f"Watching {orgs} on {mill.settings.endpoint}, every {seconds:g} s. Ctrl-C ends it.")
            with mill.watching():
                _sleep_forever()
    if once:
        raise typer.Exit(code)


@commands.command()
def up(context: typer.Context) -> None:
    """Watch, build, and serve the web page and the webhook, all in one process."""
    from bot.api import serve

    output = Output.of(context)
    with opened_mill() as mill, resumable(output):
        logs.for_services(mill.settings)
        serve(mill, ready=lambda url: output.say(f"Open {url} in a browser. Ctrl-C ends it."))


def _one_round(mill: Mill, output: Output) -> int:
    from bot.cli import render
    from bot.cli.outcome import exit_code
    from bot.cli.progress import follow

    builds: tuple[Build, ...] = follow(mill, mill.reconcile(), output)
    mill.drain()
    rows = mill.releases()
    output.answer({"builds": builds, "releases": rows}, lambda: render.releases(rows))
    for build in builds:
        if build.failure is not None:
            output.error(build.failure.error())
    results = [result for build in builds for result in build.results]
    # The watcher asks for whatever the verdict allows, so a refusal is an answer and not a failure.
    return exit_code([r for r in results if r.status != "refused"], builds, all_wanted=False)


def _sleep_forever() -> None:
    while True:
        time.sleep(3600)
