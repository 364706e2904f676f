"""What the steps of one build have in common."""

from __future__ import annotations

from dataclasses import dataclass

from bot import recipes
from bot.builds import BuildRequest, VariantResult
from bot.models import Recipe, Release
from bot.publication import Declined, Publication
from bot.recipes import Backend
from bot.stages import Stages
from bot.steps import Steps
from bot.telling import Telling


@dataclass(frozen=True)
class Job:
    """A build under way. `fresh`: by repo, what the build would put into an empty one."""

    request: BuildRequest
    steps: Steps
    release: Release
    backend: Backend
    fresh: dict[str, Publication]
    stages: Stages

    def telling(self, stage: str, recipe: str | None = None) -> Telling:
        return Telling(self.steps.journal, self.steps.build, stage, recipe)

    def fresh_for(self, recipe: Recipe) -> Publication:
        return self.fresh[recipe.target(self.request.namespace, self.release.name)]

    def declined(self, result: VariantResult) -> Declined:
        """What the card is to say of a variant that failed the gate."""
        [recipe] = recipes.by_id([result.recipe])
        return Declined(
            recipe=recipe.id,
            recipe_digest=recipe.digest,
            toolchain=self.request.toolchain,
            made_from=self.fresh_for(recipe).digests.made_from,
            by="gate",
            reason=result.reason or "",
        )
