"""`phimill verify` and `phimill explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import opened_mill
from bot.cli.output import FormatOption, Output
from bot.errors import NotAsRecorded

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bot.explain import Explanation
    from bot.verify import Checked

PublishedArgument = Annotated[
    str,
    typer.Argument(
        metavar="REPO[@TAG]",
        help="A repo that phimill published, at a tag, a branch or a commit. Default: its newest version.",
    ),
]

commands = typer.Typer()


@commands.command()
def verify(context: typer.Context, repo: PublishedArgument, format: FormatOption = None) -> None:
    """Check that what is published is what its receipt says.

    Reads every file and compares sizes and hashes with the receipt and the provenance statement, makes the statement
    and the card again from the receipt, and looks whether the source commit still has the same files. Needs no token
    for a public repo, and nothing is kept. Each finding is a line that names the file. Exits with 7 when something is
    not as recorded; that the source is gone is only a warning.
    """
    from bot import verify as verifying
    from bot.cli.progress import hearing
    from bot.telling import Telling

    output = Output.of(context, format)
    with opened_mill() as mill:
        there = verifying.published(mill.hub, repo)
        with hearing(output.messages) as ear:
            telling = Telling(ear, "verify", "verify")
            checked = verifying.verify(mill.hub, there, lambda p, done, all: telling.progress(p, done, all, "bytes"))
    output.answer({**checked.model_dump(mode="json"), "ok": checked.ok}, lambda: _shown(checked))
    if not checked.ok:
        wrong = sum(not finding.warning for finding in checked.findings)
        what = f"{checked.repo}@{checked.revision} is not what its receipt says: {wrong} findings."
        output.error(NotAsRecorded(what, "Do not use it before you know why; ask whoever published it."))
        raise typer.Exit(NotAsRecorded.exit_code)


@commands.command()
def explain(context: typer.Context, repo: PublishedArgument, format: FormatOption = None) -> None:
    """Say in plain words where a published repo came from, what was measured, and how to check it.

    Tells what the repo says about itself; `phimill verify` finds out whether that holds.
    """
    from bot import explain as explaining
    from bot import verify as verifying

    output = Output.of(context, format)
    with opened_mill() as mill:
        told = explaining.explain(mill.hub, verifying.published(mill.hub, repo))
    output.answer(told, lambda: _told(told))


def _shown(checked: Checked) -> RenderableType:
    from rich.console import Group

    from bot.cli.render import BAD, GOOD, MIND, QUIET, cell
    from bot.ui import words

    head = (
        f"{checked.repo}@{checked.revision}, commit {checked.sha}: {checked.files} files, {words.size(checked.bytes)}"
    )
    lines = [cell(head, QUIET)]
    for finding in checked.findings:
        lines.append(cell(f"{'note' if finding.warning else 'wrong'}: {finding}", MIND if finding.warning else BAD))
    if checked.ok:
        said = f"All of it is as recorded. Source: {checked.source} at {checked.source_sha}."
        lines.append(cell(said, GOOD))
    return Group(*lines)


def _told(told: Explanation) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from bot.cli.render import cell

    lines: list[Text] = []
    for section in told.sections:
        lines += [cell(section.title, "bold"), *(cell(line) for line in section.lines), Text()]
    return Group(*lines[:-1])
