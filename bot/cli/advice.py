"""`phimill advise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import RepoArgument, opened_mill
from bot.cli.output import FormatOption, Output
from bot.errors import NotEnoughRoom, VerdictRefused

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bot.advisor import Advice, Choice

commands = typer.Typer()


@commands.command()
def advise(
    context: typer.Context,
    repo: RepoArgument,
    device: Annotated[str, typer.Option("--device", metavar="ID", help="What it is to run on: phone, laptop, mac...")],
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="The device's memory: 8GB. Default: what a usual one has."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--context", metavar="TOKENS", min=1, help="Prompt and answer together. Default: 4096."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="NAMESPACE", help="Whose conversions to look at. Default: the bot's own."),
    ] = None,
    format: FormatOption = None,
) -> None:
    """Say which variant of a release to run on a device, why, and how to get it.

    Counts the weights, the KV cache for the context and what the runtime holds. Exits with 6 when nothing fits, with 3
    when there is nothing for the device.
    """
    from bot.devices import parse_memory

    output = Output.of(context, format)
    size = parse_memory(memory) if memory is not None else None
    with opened_mill() as mill:
        advice = mill.reader().advise(repo, device, size, tokens, to)
    output.answer(advice, lambda: _shown(advice))
    if advice.pick is None:
        raise typer.Exit((NotEnoughRoom if advice.smallest else VerdictRefused).exit_code)


def _shown(advice: Advice) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from bot.cli.render import MIND, QUIET, cell, table
    from bot.devices import devices
    from bot.ui import words

    head = Text.assemble((advice.repo, "bold"), f"@{advice.sha[:7]}")
    asked = (
        f"{devices()[advice.device].title} with {words.size(advice.memory)}, {words.size(advice.usable)} of it for a "
        f"model; {advice.context} tokens of context"
    )
    figures = ("weights", "KV cache", "runtime", "needs", "left", "mean KL")
    shown = table("", "recipe", *figures, "where", right=figures)
    named = {"take": advice.pick, "runner-up": advice.runner_up, "smallest": advice.smallest}
    for name, choice in named.items():
        if choice is not None:
            shown.add_row(cell(name, QUIET), *map(cell, _row(choice)))
    parts: list[RenderableType] = [head, cell(asked, QUIET), Text()]
    parts += [shown, Text()] if shown.rows else []
    parts += [cell(advice.why), *(cell(note, MIND) for note in advice.notes)]
    if advice.pick is not None:
        parts += [cell(f"{advice.pick.recipe}: {caveat}", MIND) for caveat in advice.pick.caveats]
        parts += [Text(), *map(cell, _how(advice.pick))]
    return Group(*parts)


def _row(choice: Choice) -> tuple[str, ...]:
    """One choice's cells, the first one after its name."""
    from bot.ui import words

    needs = choice.needs
    left = words.size(choice.left) if choice.left >= 0 else f"-{words.size(-choice.left)}"
    sizes = (words.size(count) for count in (needs.weights, needs.cache, needs.runtime, needs.total))
    where = f"{choice.repo}@{choice.tag}" if choice.published else "not published yet"
    return (choice.recipe, *sizes, left, words.nats(choice.kl_mean), where)


def _how(choice: Choice) -> tuple[str, ...]:
    """The first way to get a variant, and where the others are."""
    if not choice.snippets:
        return ()
    first, *others = choice.snippets
    more = (f"The card of {choice.repo} has other ways to run it.",) if others else ()
    lines = [line for part in (first.install, first.code) if part for line in part.splitlines()]
    return (f"{first.title}:", *(f"  {line}" for line in lines), *more)
