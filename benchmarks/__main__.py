"""Run the benchmarks and write what they found to docs/benchmarks/."""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import psutil
from huggingface_hub.utils.tqdm import disable_progress_bars

from benchmarks import crowd, crowd_plot, hub_streams, idle_poll, matrix, one_round, page
from benchmarks.page import Section
from bot import recipes

SINGLE = {"hub": hub_streams, "idle": idle_poll, "round": one_round}
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is being measured ends too
    disable_progress_bars()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in SINGLE:
        if name in given.only:
            page.keep(given.out, _single(name))
    if "page" in given.only:
        page.keep(given.out, _crowd(given.minutes, given.out))
    if "matrix" in given.only:
        for size in given.size:
            _matrix(size, given)
    page.write(given.out)


def _arguments() -> argparse.Namespace:
    known = (*SINGLE, "page", "matrix")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=known, default=known, help="Which benchmarks; all by default.")
    parser.add_argument("--out", type=Path, default=DOCS, help="Where the page, the figures and the plots go.")
    parser.add_argument("--minutes", type=float, default=10, help="How long people stay on the page; default: 10.")
    of = parser.add_argument_group("matrix")
    of.add_argument("--size", nargs="+", choices=[*matrix.SIZES], default=["tiny", "half-b"])
    of.add_argument("--backends", nargs="+", choices=[*recipes.backends()], default=[*recipes.backends()])
    of.add_argument("--memory", type=float, metavar="GIB", help="The mill's memory budget; its own default if unset.")
    of.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "phimill-bench", help="A large disk.")
    of.add_argument("--resume", action="store_true", help="Go on where the last run in --work was stopped.")
    return parser.parse_args()


def _single(name: str) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        return _section(name, SINGLE[name].measure(Path(folder)))


def _crowd(minutes: float, out: Path) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        rows, found = crowd.measure(Path(folder), minutes)
    (out / "page.png").write_bytes(crowd_plot.draw(found))
    return _section("page", rows)


def _section(name: str, rows: Sequence[tuple[str, str, str]]) -> Section:
    for row in rows:
        print(" | ".join(row), flush=True)
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
    return Section(name=name, machine=machine, day=date.today().isoformat(), rows=tuple(rows))


def _matrix(size: str, given: argparse.Namespace) -> None:
    run = matrix.Run(size, given.work, lambda line: print(line, flush=True))
    if not given.resume:
        run.forget()
    budget = None if given.memory is None else int(given.memory * 2**30)
    page.keep_matrix(given.out, run.measure(given.backends, budget))
    run.forget()


if __name__ == "__main__":
    main()
