"""docs/benchmarks/: the figures as JSON, and the page and the plots that are drawn from them."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from benchmarks import matrix_page, matrix_plot
from benchmarks.figures import Matrix
from bot.models import Frozen

FIGURES = "figures.json"
ORDER = ("hub", "idle", "round", "page")
# The smaller one last: it is for the tools' own start more than for what they do.
SIZES = ("half-b", "60m", "tiny")

HEAD = """# Benchmarks

Written by `make bench` from the JSON files beside it, each figure from the last run of its benchmark. Wall times are
the machine's; ratios, calls and memory carry over.
"""

SINGLE = """
## What the mill adds

{where}

| what | figure | |
|---|---|---|
"""


CROWD = """
![The dashboard under load, and the server's memory](page.png)

Each person has the page open at the dashboard as a browser has it: heartbeat, a look with another filter or page every
one to three seconds, the whole page again after ten of them. Tabs that are not open ask for nothing. Server and people
share the machine.
"""


class Section(Frozen):
    """The rows of one benchmark: what, figure, note."""

    name: str
    machine: str
    day: str
    rows: tuple[tuple[str, str, str], ...]


_SECTIONS = TypeAdapter(dict[str, Section])


def keep(folder: Path, found: Section) -> None:
    """Keep a benchmark's rows in place of those of its last run."""
    sections = _sections(folder) | {found.name: found}
    (folder / FIGURES).write_bytes(_SECTIONS.dump_json(sections, indent=1) + b"\n")


def keep_matrix(folder: Path, found: Matrix) -> None:
    """Keep the figures of one size in place of those of its last run, and draw them."""
    (folder / f"matrix-{found.size}.json").write_text(found.model_dump_json(indent=1) + "\n")
    (folder / f"matrix-{found.size}.png").write_bytes(matrix_plot.draw(found))


def write(folder: Path) -> None:
    """Write the page from all that is kept."""
    sections = _sections(folder)
    shown = [sections[name] for name in ORDER if name in sections]
    text = HEAD
    if shown:
        runs = dict.fromkeys(f"{section.day} on {section.machine}" for section in shown)
        text += SINGLE.format(where=f"Run {', '.join(runs)}.")
        text += "".join(f"| {' | '.join(row)} |\n" for section in shown for row in section.rows)
    if "page" in sections:
        text += CROWD
    kept = [folder / f"matrix-{size}.json" for size in SIZES]
    matrices = [Matrix.model_validate_json(file.read_text()) for file in kept if file.exists()]
    if matrices:
        text += matrix_page.text(matrices)
    (folder / "README.md").write_text(text)


def _sections(folder: Path) -> dict[str, Section]:
    file = folder / FIGURES
    return _SECTIONS.validate_json(file.read_bytes()) if file.exists() else {}
