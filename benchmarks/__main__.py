"""Run every benchmark and write the table to docs/benchmarks/README.md."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

import psutil

from benchmarks import hub_streams, idle_poll, one_round

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "README.md"

HEAD = """# Benchmarks

Written by `make bench`: one run, on {machine}. Wall times are that machine's; ratios, calls and memory carry over.

| what | figure | |
|---|---|---|
"""


def main() -> None:
    rows: list[tuple[str, str, str]] = []
    for benchmark in (hub_streams, idle_poll, one_round):
        with tempfile.TemporaryDirectory() as folder:
            found = benchmark.measure(Path(folder))
        for row in found:
            print(" | ".join(row), flush=True)
        rows += found
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(HEAD.format(machine=machine) + "".join(f"| {' | '.join(row)} |\n" for row in rows))


if __name__ == "__main__":
    main()
