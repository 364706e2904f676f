"""What making a variant takes: memory, disk, minutes, and what it weighs in the end."""

from __future__ import annotations

from pathlib import Path
from shutil import disk_usage

from bot.doctor import memory_budget
from bot.models import Needs, Recipe, Release
from bot.recipes import Costs, by_id, reference_costs
from bot.settings import GIB, Settings

POSITIONS = 2400  # windows and prompts together
FLOAT_BITS = 16  # an embedding with as many is not quantized
CORES = 2  # minutes are promised for a small machine; more cores only help


def estimate(release: Release, recipe: Recipe, costs: Costs) -> Needs:
    """What `recipe` alone takes, the source's download included in the disk but not in the minutes.

    Several recipes of one build share the source, the unquantized base, the importance matrix and the reference.
    """
    reference, base = reference_costs(), base_bytes(release)
    log_probabilities = 2 * POSITIONS * release.traits.vocab * 2  # of the source and of the baseline, 16 bits each
    output = variant_bytes(release, recipe)
    baseline = 0 if recipe.id == recipe.baseline else variant_bytes(release, by_id([recipe.baseline])[0])
    seconds = costs.check + costs.export + reference.check
    seconds += (costs.evaluate + reference.evaluate + recipe.cpu_seconds) / CORES
    if _calibrated(recipe):
        seconds += costs.imatrix / CORES
    return Needs(
        memory=max(
            converting(release, recipe, costs),
            evaluating(release, recipe, costs),
            int(base * reference.evaluate_memory_per_byte_least),
        ),
        disk=release.weight_bytes + output + baseline + int(base * costs.intermediate) + log_probabilities,
        minutes=round(seconds * base / 1e9 / 60, 1),
        output=output,
    )


def variant_bytes(release: Release, recipe: Recipe) -> int:
    """What the variant weighs in the end.

    A token embedding that is stored apart counts for itself: with 200,000 tokens it is a sixth of Phi-4-mini, and
    where it stays at 32 bits, larger than the rest at 4. Tied to the output matrix, it is stored once, and quantized
    as that is.
    """
    bits = recipe.embedding_bits
    if bits is None or (release.traits.tied_embeddings and bits >= FLOAT_BITS):
        return int(release.parameters * recipe.bits_per_weight / 8)
    table = release.traits.vocab * release.traits.hidden
    return int(((release.parameters - table) * recipe.bits_per_weight + table * bits) / 8)


def base_bytes(release: Release) -> int:
    """The size of the weights without quantization: 16 bits each, or 32 where the source has them."""
    return release.parameters * (4 if release.dtype == "float32" else 2)


def converting(release: Release, recipe: Recipe, costs: Costs) -> int:
    """Bytes of memory that making the variant holds at its peak."""
    base = base_bytes(release)
    calibrating = int(base * costs.imatrix_memory_per_byte) if _calibrated(recipe) else 0
    return max(costs.memory_bytes + int(base * recipe.memory_per_byte), calibrating)


def evaluating(release: Release, recipe: Recipe, costs: Costs) -> int:
    """Bytes of memory that measuring the variant holds at its peak."""
    return max(costs.memory_bytes, int(variant_bytes(release, recipe) * costs.evaluate_memory_per_byte))


def referencing(release: Release, budget: int) -> int:
    """Bytes of memory that running the source in PyTorch holds at its peak, within a budget."""
    reference, base = reference_costs(), base_bytes(release)
    at_ease = int(base * reference.evaluate_memory_per_byte) + reference.memory_bytes
    return at_ease if at_ease <= budget else int(base * reference.evaluate_memory_per_byte_least)


def _calibrated(recipe: Recipe) -> bool:
    return bool(recipe.options.get("imatrix"))


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
