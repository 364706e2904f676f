"""What people are offered of a release: every recipe meant for it, where it stands, and which ones are ticked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bot import recipes
from bot.models import Frozen, Precision, Recipe, Verdict
from bot.settings import Settings

if TYPE_CHECKING:
    from bot.reader import CheckReport

RECOMMENDED, COOKBOOK = PRESETS = ("recommended", "cookbook")
PRECISIONS = (Precision.INT4, Precision.INT8, Precision.FP16, Precision.FP32, Precision.OTHER)


class Offer(Frozen):
    """One recipe for one release. `repo` and `tag` say where it stands already."""

    recipe: Recipe
    verdict: Verdict
    repo: str | None = None
    tag: str | None = None

    @property
    def open(self) -> bool:
        """Whether it can be asked for: the release allows it and this machine has room for it."""
        return self.verdict.convertible and not self.verdict.lacks


def offers(report: CheckReport, settings: Settings) -> tuple[Offer, ...]:
    """What the enabled backends can or cannot make of the release, in the order of their files."""
    verdicts = {verdict.recipe: verdict for verdict in report.verdicts}
    return tuple(
        Offer(
            recipe=recipe,
            verdict=verdicts[recipe.id],
            repo=report.places.get(recipe.id),
            tag=report.published.get(recipe.id),
        )
        for backend in recipes.enabled(settings)
        for recipe in backend.recipes
        if recipe.id in verdicts and recipe.suits_release(report.release)
    )


def ticked(given: Iterable[Offer], preset: str) -> tuple[str, ...]:
    """What is ticked to begin with: of the preset, what is usually made, can be made, and does not stand already."""
    return tuple(
        offer.recipe.id
        for offer in given
        if offer.open and offer.tag is None and offer.recipe.default and offer.recipe.preset == preset
    )


def allowed(given: Iterable[Offer], asked: Sequence[object]) -> tuple[str, ...]:
    """Of what a browser says is ticked, what can be asked for."""
    return tuple(offer.recipe.id for offer in given if offer.open and offer.recipe.id in asked)


def cost(given: Iterable[Offer], chosen: Sequence[str]) -> tuple[float, int]:
    """What the chosen recipes take together: minutes, and bytes published. An upper bound, as they share work."""
    needs = [offer.verdict.needs for offer in given if offer.recipe.id in chosen and offer.verdict.needs]
    return sum(need.minutes for need in needs), sum(need.output for need in needs)
