"""How far a build is: each variant's way from the source to its repo, read from the steps that are finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bot.builds import Build, Phase
from bot.models import Frozen

State = Literal["done", "now", "ahead", "failed", "left"]
STAGES = ("convert", "prove", "publish")


class Leg(Frozen):
    """One variant's stages (`convert`, `prove`, `publish`) and the state of each.

    `measure` marks an unquantized export that nobody asked for: the others are measured against it.
    """

    recipe: str
    states: dict[str, State]
    measure: bool = False


def fetched(build: Build, steps: Sequence[str]) -> State:
    """Where the download of the source stands."""
    used = any(result.status in ("published", "gate_failed") for result in build.results)
    if used or any(name.startswith("convert ") for name in steps):
        return "done"
    if build.phase is Phase.RUNNING and build.progress and build.progress.recipe:
        return "now" if build.progress.stage.endswith("download") else "done"
    return "left" if build.over else "ahead"


def course(build: Build, steps: Sequence[str]) -> tuple[Leg, ...]:
    """Every variant that a build makes, and what it needs to measure them against, in the order of the request."""
    begun = [name.partition(" ")[2] for name in steps if name.startswith(("convert ", "prove "))]
    current = build.progress.recipe if build.phase is Phase.RUNNING and build.progress else None
    measured = [recipe for recipe in (*begun, current) if recipe and recipe not in build.request.recipes]
    return (
        *(Leg(recipe=name, states=_states(build, name, steps), measure=True) for name in dict.fromkeys(measured)),
        *(Leg(recipe=name, states=_states(build, name, steps)) for name in build.request.recipes),
    )


def _states(build: Build, recipe: str, steps: Sequence[str]) -> dict[str, State]:
    ended = {result.recipe: result.status for result in build.results}.get(recipe)
    if ended in ("published", "already_published"):
        return dict.fromkeys(STAGES, "done")
    states: dict[str, State] = {stage: "done" if f"{stage} {recipe}" in steps else "ahead" for stage in STAGES}
    first = next((stage for stage in STAGES if states[stage] == "ahead"), None)
    if ended == "gate_failed":
        states = {"convert": "done", "prove": "failed", "publish": "left"}
    elif ended == "refused":
        states = dict.fromkeys(STAGES, "left")
    elif build.over and first is not None:
        states |= dict.fromkeys(STAGES[STAGES.index(first) :], "left")
        states[first] = "failed" if ended == "failed" else "left"
    elif _is_now(build, recipe) and first is not None:
        states[first] = "now"
    return states


def _is_now(build: Build, recipe: str) -> bool:
    return build.phase is Phase.RUNNING and build.progress is not None and build.progress.recipe == recipe
