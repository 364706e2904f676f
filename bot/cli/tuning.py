"""`phimill tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.app import RepoArgument, opened_mill
from bot.cli.output import FormatOption, Output
from bot.cli.stopping import resumable
from bot.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from bot.choice import Candidate, Evidence
    from bot.models import Precision

BackendOption = Annotated[str, typer.Option("--backend", metavar="BACKEND", help="Whose recipes are tried.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", metavar="PRECISION", help="Which of them: FP32, FP16, INT8, INT4 or other.")
]
CandidatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar="ID",
        help="Only this one, and the one that sets the size; may be repeated. Default: all for the same devices.",
    ),
]
RatioOption = Annotated[
    float,
    typer.Option(
        "--max-bytes-ratio", min=0.01, help="How large the chosen one may be, as a multiple of the cookbook's."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where the evidence goes. Default: below PHIMILL_HOME/tuning."),
]

commands = typer.Typer()


@commands.command()
def tune(
    context: typer.Context,
    repo: RepoArgument,
    backend: BackendOption,
    precision: PrecisionOption = "INT4",
    candidate: CandidatesOption = None,
    max_bytes_ratio: RatioOption = 1.05,
    out: OutOption = None,
    format: FormatOption = None,
) -> None:
    """Try a backend's candidate recipes on a release, and choose one: the nearest to the source at the allowed size.

    Nothing is published, so no token is needed for a public release. The evidence, a picture and the chosen recipe as
    TOML are written side by side. Interrupted, the same command goes on where it stopped. Exits with 4 when nothing
    can be chosen.
    """
    from bot import tune as tuning
    from bot.cli.progress import hearing

    output = Output.of(context, format)
    if out is not None and out.suffix in (".png", ".toml"):
        raise UsageError(f"{out} is the name of what lies beside the evidence.", "Name it FILE.json.")
    wanted = _precision(precision)
    with opened_mill() as mill:
        with resumable(output), hearing(output.messages) as ear:
            found = tuning.tune(mill, ear, repo, backend, wanted, candidate or (), max_bytes_ratio)
        written = tuning.save(found, mill.settings, out)
    output.answer(found, lambda: _shown(found, written))
    if found.chosen is None:
        output.error(GateFailed("None of the candidates can be chosen.", "The table says why for each."))
        raise typer.Exit(GateFailed.exit_code)


def _precision(text: str) -> Precision:
    from bot.models import Precision

    for one in Precision:
        if one.lower() == text.lower():
            return one
    raise UsageError(f"{text!r} is no precision.", f"There are {', '.join(Precision)}.")


def _shown(found: Evidence, written: dict[str, Path]) -> RenderableType:
    """The table by size, why, the recipe to paste, and where all of it lies."""
    from rich.console import Group
    from rich.text import Text

    from bot.choice import table
    from bot.cli import render

    figures = ("size", "bits", "mean KL", "p99", "top-1")
    shown = render.table("candidate", *figures, "front", "", right=figures)
    for one in found.candidates:
        shown.add_row(*_row(one, chosen=one.recipe == found.chosen))
    notes = [f"{one.recipe}: {one.reason}" for one in found.candidates if one.reason]
    if any(one.against == "baseline" for one in found.candidates):
        notes.append("This runtime is known to differ from the source: mean KL is to its own unquantized export.")
    parts: list[RenderableType] = [shown, Text(), *(render.cell(note, "dim") for note in (*notes, found.rule.text))]
    if found.chosen is not None:
        parts += [Text(), render.cell(table(found, written["evidence"].name))]
    parts += [render.cell(f"{name}: {path}") for name, path in written.items()]
    return Group(*parts)


def _row(one: Candidate, *, chosen: bool) -> list[Text]:
    """A line of the table. What is not in question says why in a word."""
    from bot.cli.render import RESULT_STYLES, cell
    from bot.ui import words

    if one.status == "measured":
        said, style = ("chosen", "bold green") if chosen else ("" if one.within else "too large", "dim")
    else:
        said, style = words.result(one.status), RESULT_STYLES[one.status]
    fidelity = one.fidelity
    return [
        cell(one.recipe, "bold" if chosen else ""),
        cell(_size(one.bytes)),
        cell("" if one.bits_per_weight is None else f"{one.bits_per_weight:.2f}"),
        cell("" if one.kl is None else f"{one.kl:.3g}"),
        cell("" if fidelity is None else f"{fidelity.kl_p99:.3g}"),
        cell(words.share(fidelity.top1 if fidelity else None)),
        cell("*" if one.front else ""),
        cell(said, style),
    ]


def _size(count: int | None) -> str:
    """Bytes with more digits than elsewhere: candidates are often of almost the same size."""
    if count is None:
        return ""
    return f"{count / 1e9:.3f} GB" if count >= 1e9 else f"{count / 1e6:.3f} MB"
