"""`phimill demo`: starts the demonstration and shows how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import Output

if TYPE_CHECKING:
    from bot.builds import VariantResult
    from bot.demo import Demo

commands = typer.Typer()


@commands.command()
def demo(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End after the first round, with a table.")] = False,
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder that keeps everything.")] = Path(
        ".phimill"
    ),
) -> None:
    """Show the whole mill at work on this machine alone: a Hub, a tiny Phi release on it, and the bot."""
    from bot.demo import opened

    output = Output.of(context)
    with opened(root, output.say, output.again) as shown:
        output.say(f"A Hub is running on {shown.hub}; {shown.source} is on it.")
        raise typer.Exit(_once(shown, output) if once else _stay(shown, output))


def _once(shown: Demo, output: Output) -> int:
    from bot.cli import render

    code = shown.bot("watch", "--once")
    results = shown.results()
    if results or output.json:
        output.answer({"endpoint": shown.hub, "variants": results}, lambda: render.results(results))
    there = [result for result in results if result.files and result.tag]
    if there:
        output.say("\nWithout --once the Hub keeps running, and this pulls a variant back:")
        _say_pull_lines(shown, next((r for r in there if r.repo == shown.target), None), output)
    return code or (0 if there else 1)


def _stay(shown: Demo, output: Output) -> int:
    output.say("When its first build is done, this pulls a variant back:")
    _say_pull_lines(shown, None, output)
    return shown.bot("up")


def _say_pull_lines(shown: Demo, result: VariantResult | None, output: Output) -> None:
    for line in shown.pull_lines(result):
        output.messages.print(f"  {line}", markup=False, soft_wrap=True)
