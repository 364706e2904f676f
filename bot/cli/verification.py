"""`phimill verify` and `phimill explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import opened_mill
from bot.cli.output import FormatOption, Output
from bot.errors import NotAsRecorded, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bot.again import Again
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
MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Measure the published variants again, and compare figures.")
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="RECIPE", help="Do this with only this variant; may be repeated. Default: all."),
]

KeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Public key, in PEM form, that must have signed the repo."),
]

commands = typer.Typer()


@commands.command()
def verify(
    context: typer.Context,
    repo: PublishedArgument,
    rebuild: RebuildOption = False,
    measure: MeasureOption = False,
    only: OnlyOption = None,
    key: KeyOption = None,
    format: FormatOption = None,
) -> None:
    """Check that what is published is what its receipt says.

    Reads every file and compares sizes and hashes with the receipt and the provenance statement, makes the statement
    and the card again from the receipt, and looks whether the source commit still has the same files. Needs no token
    for a public repo, and nothing is kept. Each finding is a line that names the file. Exits with 7 when something is
    not as recorded; that the source is gone is only a warning.

    With --key, the repo must also be signed by that key: every file, as it is. Where the key comes from is for you to
    know; whoever runs the mill has it.

    With --rebuild, the source is fetched at its commit and every variant is made again, in a folder of its own, and
    compared byte by byte; where one differs, its tensors are named. Nothing is published. Exits with 7, too, when a
    rebuild differs or cannot be made: other tools than the receipt names may make other bytes, and that is said.

    With --measure, the published files are downloaded and measured against the source as a build measures its own.
    Exits with 7, too, when mean KL is further from the receipt's than 5 % and 1e-5 nats, or top-1 than one point.
    """
    from bot import verify as verifying
    from bot.again import again, chosen, merged
    from bot.cli.progress import hearing
    from bot.signature import Verifier
    from bot.telling import Telling

    output = Output.of(context, format)
    if only and not (rebuild or measure):
        raise UsageError("--only chooses what is rebuilt or measured.", "Add --rebuild or --measure.")
    verifier = Verifier(key) if key else None
    with opened_mill() as mill:
        there = verifying.published(mill.hub, repo)
        variants = chosen(there, only or ())
        with hearing(output.messages) as ear:
            telling = Telling(ear, "verify", "verify")
            checked = verifying.verify(
                mill.hub, there, lambda p, done, all: telling.progress(p, done, all, "bytes"), verifier
            )
            kinds = _kinds(rebuild=rebuild, measure=measure)
            done = merged([again(kind, mill, there, variants, ear) for kind in kinds])
    findings = tuple(dict.fromkeys((*checked.findings, *done.findings)))
    found = {"rebuilt": done.rebuilt, "measured": done.measured, "findings": findings}
    _answer(output, checked.model_copy(update=found), recorded=checked.ok)


def _kinds(*, rebuild: bool, measure: bool) -> list[type[Again]]:
    """What is to be done again."""
    from bot.rebuild import Rebuild
    from bot.remeasure import Remeasure

    return [*([Rebuild] if rebuild else []), *([Remeasure] if measure else [])]


def _answer(output: Output, checked: Checked, *, recorded: bool) -> None:
    """Print what was found. `recorded`: all that could be found without doing it again is as it should be."""
    output.answer({**checked.model_dump(mode="json"), "ok": checked.ok}, lambda: _shown(checked))
    if checked.ok:
        return
    place, wrong = f"{checked.repo}@{checked.revision}", sum(not finding.warning for finding in checked.findings)
    if recorded:
        what = f"{place} is as recorded, but not all of it came out the same again: {wrong} findings."
        output.error(NotAsRecorded(what, "With the tools that the receipt names, it should."))
    else:
        what = f"{place} is not what its receipt says, or not what was signed: {wrong} findings."
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

    from bot.cli.render import AGAIN_STYLES, BAD, GOOD, MIND, QUIET, cell
    from bot.ui import words

    head = (
        f"{checked.repo}@{checked.revision}, commit {checked.sha}: {checked.files} files, {words.size(checked.bytes)}"
    )
    lines = [cell(head, QUIET)]
    for one in checked.rebuilt:
        said = f"rebuild of {one.recipe} from {one.source_sha[:7]}: {one.status.replace('_', ' ')}"
        lines.append(cell(said, AGAIN_STYLES[one.status]))
    for measured in checked.measured:
        now = "" if measured.kl_mean is None else f", mean KL {words.nats(measured.kl_mean)}"
        said = f"{measured.recipe} measured again: {measured.status.replace('_', ' ')}{now}"
        lines.append(cell(f"{said}; recorded {words.nats(measured.recorded)}", AGAIN_STYLES[measured.status]))
    for finding in checked.findings:
        lines.append(cell(f"{'note' if finding.warning else 'wrong'}: {finding}", MIND if finding.warning else BAD))
    if checked.signer:
        lines.append(cell(f"Every file is signed by the key {checked.signer}.", GOOD))
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
