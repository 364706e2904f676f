"""What making a variant takes: memory, disk, minutes, and what it weighs in the end."""

from __future__ import annotations

from pathlib import Path
from shutil import disk_usage

from bot.doctor import memory_budget
from bot.models import Needs, Recipe, Release
from bot.recipes import Costs, reference_costs
from bot.settings import GIB, Settings

POSITIONS = 2400  # windows and prompts together
CORES = 2  # minutes are promised for a small machine; more cores only help


def estimate(release: Release, recipe: Recipe, costs: Costs) -> Needs:
    """What `recipe` alone takes, the source's download included in the disk but not in the minutes.

    Several recipes of one build share the source, the unquantized base, the importance matrix and the reference.
    """
    reference = reference_costs()
    base = release.parameters * (4 if release.dtype == "float32" else 2)
    baseline = release.parameters * 2
    log_probabilities = 2 * POSITIONS * release.traits.vocab * 2  # of the source and of the baseline, 16 bits each
    output = int(release.parameters * recipe.bits_per_weight / 8)
    quantizes = "type" in recipe.options
    calibrated = bool(recipe.options.get("imatrix"))
    seconds = costs.check + costs.export + costs.evaluate / CORES + reference.check + reference.evaluate / CORES
    if quantizes:
        # An unknown type is taken to be as slow as the slowest known.
        known = costs.quantize
        seconds += known.get(recipe.options["type"], max(known.values(), default=0)) / CORES
    if calibrated:
        seconds += costs.imatrix / CORES
    memory = [
        costs.memory_bytes,
        int(base * reference.evaluate_memory_per_byte_least),
        int(output * costs.evaluate_memory_per_byte),
        int(base * costs.imatrix_memory_per_byte) if calibrated else 0,
    ]
    return Needs(
        memory=max(memory),
        disk=release.weight_bytes + output + (base if quantizes else 0) + baseline + log_probabilities,
        minutes=round(seconds * base / 1e9 / 60, 1),
        output=output,
    )


def lacking(needs: Needs, settings: Settings) -> tuple[str, ...]:
    """What this machine has too little of, one sentence each; empty when it can do it."""
    memory = memory_budget(settings)
    home = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    disk = free_disk(home, settings)
    found = []
    if needs.memory > memory:
        found.append(f"It needs {_gib(needs.memory)} of memory; builds here may use {_gib(memory)}.")
    if needs.disk > disk:
        found.append(f"It needs {_gib(needs.disk)} of disk; {_gib(disk)} can be used here.")
    return tuple(found)


def free_disk(path: Path, settings: Settings) -> int:
    """Bytes that may be written at `path` before the disk falls to its floor."""
    return max(disk_usage(path).free - settings.disk_floor, 0)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
