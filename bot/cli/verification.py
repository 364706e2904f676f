"""`phimill verify` and `phimill explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import opened_mill
from bot.cli.output import FormatOption, Output
from bot.errors import NotAsRecorded, UsageError

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
RebuildOption = Annotated[
    bool, typer.Option("--rebuild", help="Make the variants again from the source, and compare bytes.")
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="RECIPE", help="Rebuild only this variant; may be repeated. Default: all."),
]

commands = typer.Typer()


@commands.command()
def verify(
    context: typer.Context,
    repo: PublishedArgument,
    rebuild: RebuildOption = False,
    only: OnlyOption = None,
    format: FormatOption = None,
) -> None:
    """Check that what is published is what its receipt says.

    Reads every file and compares sizes and hashes with the receipt and the provenance statement, makes the statement
    and the card again from the receipt, and looks whether the source commit still has the same files. Needs no token
    for a public repo, and nothing is kept. Each finding is a line that names the file. Exits with 7 when something is
    not as recorded; that the source is gone is only a warning.

    With --rebuild, the source is fetched at its commit and every variant is made again, in a folder of its own, and
    compared byte by byte; where one differs, its tensors are named. Nothing is published. Exits with 7, too, when a
    rebuild differs or cannot be made: other tools than the receipt names may make other bytes, and that is said.
    """
    from bot import rebuild as rebuilding
    from bot import verify as verifying
    from bot.cli.progress import hearing
    from bot.telling import Telling

    output = Output.of(context, format)
    if only and not rebuild:
        raise UsageError("--only chooses what is rebuilt.", "Add --rebuild.")
    with opened_mill() as mill:
        there = verifying.published(mill.hub, repo)
        chosen = rebuilding.chosen(there, only or ()) if rebuild else ()
        with hearing(output.messages) as ear:
            telling = Telling(ear, "verify", "verify")
            checked = verifying.verify(mill.hub, there, lambda p, done, all: telling.progress(p, done, all, "bytes"))
            again = rebuilding.rebuild(mill, there, chosen, ear)
    findings = tuple(dict.fromkeys((*checked.findings, *again.findings)))
    both = checked.model_copy(update={"rebuilt": again.rebuilt, "findings": findings})
    _answer(output, both, recorded=checked.ok)


def _answer(output: Output, checked: Checked, *, recorded: bool) -> None:
    """Print what was found. `recorded`: all that could be found without a rebuild is as it should be."""
    output.answer({**checked.model_dump(mode="json"), "ok": checked.ok}, lambda: _shown(checked))
    if checked.ok:
        return
    place, wrong = f"{checked.repo}@{checked.revision}", sum(not finding.warning for finding in checked.findings)
    if recorded:
        what = f"{place} is as recorded, but not all of it was rebuilt to the same bytes: {wrong} findings."
        output.error(NotAsRecorded(what, "With the tools that the receipt names, the bytes should be the same."))
    else:
        what = f"{place} is not what its receipt says: {wrong} findings."
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

    from bot.cli.render import BAD, GOOD, MIND, QUIET, REBUILT_STYLES, cell
    from bot.ui import words

    head = (
        f"{checked.repo}@{checked.revision}, commit {checked.sha}: {checked.files} files, {words.size(checked.bytes)}"
    )
    lines = [cell(head, QUIET)]
    for one in checked.rebuilt:
        said = f"rebuild of {one.recipe} from {one.source_sha[:7]}: {one.status.replace('_', ' ')}"
        lines.append(cell(said, REBUILT_STYLES[one.status]))
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
