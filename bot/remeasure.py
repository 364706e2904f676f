"""Measures the published variants of a repo again: their own bytes against the source at its commit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bot import filenames, toolchain
from bot.again import BUILD, Again, Outcome
from bot.agreement import Finding, differs
from bot.children import REFERENCE
from bot.errors import SourceCorrupt
from bot.measures import Fidelity, WeightErrors
from bot.models import ArtifactFile, Recipe
from bot.publication import RECEIPT_PATH, Publication, PublishedVariant
from bot.stages import EVALUATION, WINDOW_TOKENS, WINDOWS, Stages
from bot.telling import Telling
from bot.verify import Measured, hashed

# What another processor may make of the same sums: of a mean KL this share, or so many nats; of top-1 such a share.
KL_SHARE, KL_NATS, TOP1 = 0.05, 1e-5, 0.01


@dataclass
class Remeasure(Again):
    """Variants whose published bytes are measured as a build measures its own."""

    verb = "measured"
    needs = (REFERENCE,)

    @classmethod
    def undone(cls, publication: Publication, variant: PublishedVariant) -> Outcome:
        return Outcome(measured=(_row(variant, None),))

    def one(self, stages: Stages, variant: PublishedVariant, recipe: Recipe) -> Outcome:
        """Download it, measure it, and compare with the receipt."""
        if (why := self._other_text(variant)) is not None:
            return self.none(self.publication, [variant], why)
        stages.place(recipe, variant, self._bring)
        found = stages.prove(recipe, Telling(self.ear, BUILD, "prove", recipe.id))
        row, findings = _row(variant, found), tuple(_compared(variant, found))
        return Outcome(measured=(row,), findings=findings)

    def _other_text(self, variant: PublishedVariant) -> str | None:
        """Why the figures of the receipt cannot be compared with any that are measured here."""
        text = (toolchain.code_path(settings=self.mill.settings) / EVALUATION).read_bytes()
        here = (hashlib.sha256(text).hexdigest(), WINDOWS, WINDOW_TOKENS)
        there = (self.publication.evaluation_sha256, variant.fidelity.windows, variant.fidelity.window_tokens)
        return None if here == there else "the receipt's figures are of another text, or of other windows of it"

    def _bring(self, file: ArtifactFile, folder: Path) -> None:
        """Download one file of a variant. It must be what the receipt lists."""
        path = folder / filenames.check(file.path)
        listed = next((each for each in self.there.files if each.path == file.path), None)
        if listed is None or listed.size != file.size:
            raise _other(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        telling = Telling(self.ear, BUILD, "download")
        with path.open("wb") as out:
            held = hashed(
                self.mill.hub, self.there, listed,
                lambda size: telling.progress(file.path, size, file.size, "bytes"), out.write,
            )  # fmt: skip
        if held.sha256 != file.sha256:
            raise _other(file)


def _other(file: ArtifactFile) -> SourceCorrupt:
    return SourceCorrupt(f"{file.path} is not the file that the receipt lists.", "Other bytes are not measured.")


def _row(variant: PublishedVariant, found: Fidelity | None) -> Measured:
    recorded = variant.fidelity.kl_mean
    if found is None:
        return Measured(recipe=variant.recipe, status="not_measured", kl_mean=None, recorded=recorded)
    status = "differs" if any(_compared(variant, found)) else "same"
    return Measured(recipe=variant.recipe, status=status, kl_mean=found.kl_mean, recorded=recorded)


def _compared(variant: PublishedVariant, found: Fidelity) -> Iterator[Finding]:
    said = variant.fidelity
    if not math.isclose(said.kl_mean, found.kl_mean, rel_tol=KL_SHARE, abs_tol=KL_NATS):
        what = f"mean KL of {variant.recipe} measured again"
        yield differs(RECEIPT_PATH, what, f"{said.kl_mean:.3g}", f"{found.kl_mean:.3g}")
    if not math.isclose(said.top1, found.top1, rel_tol=0, abs_tol=TOP1):
        what = f"top-1 of {variant.recipe} measured again"
        yield differs(RECEIPT_PATH, what, f"{said.top1:.2%}", f"{found.top1:.2%}")
    if said.weights and found.weights and (there := _outliers(said.weights)) != (here := _outliers(found.weights)):
        yield differs(RECEIPT_PATH, f"weights of {variant.recipe} that stand out", there, here)


def _outliers(weights: WeightErrors) -> str:
    return ", ".join(sorted(outlier.tensor for outlier in weights.outliers)) or "none"
