"""Makes the variants of a published repo again, from their source commit, and compares bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot import difference
from bot import receipt as receipts
from bot.again import BUILD, Again, Outcome
from bot.agreement import Finding, differs
from bot.errors import NotEnoughRoom
from bot.models import Artifact, ArtifactFile, Recipe
from bot.publication import Publication, PublishedVariant
from bot.stages import Stages
from bot.telling import Telling
from bot.verify import Rebuilt, hashed
from bot.workspace import Workspace


@dataclass
class Rebuild(Again):
    """Variants that are made again and compared with what the receipt says of them."""

    verb = "rebuilt"

    @classmethod
    def undone(cls, publication: Publication, variant: PublishedVariant) -> Outcome:
        return Outcome(rebuilt=(_row(publication, variant, "not_rebuilt"),))

    def one(self, stages: Stages, variant: PublishedVariant, recipe: Recipe) -> Outcome:
        """Convert it again. What differs is explained by the published bytes."""
        folder = stages.folder(recipe)
        artifact = stages.convert(recipe, Telling(self.ear, BUILD, "convert", recipe.id))
        with Workspace(self.mill.settings).using(folder):
            findings = tuple(self._compared(variant, artifact, folder))
        row = _row(self.publication, variant, "differs" if findings else "identical")
        return Outcome(rebuilt=(row,), findings=findings)

    def _compared(self, variant: PublishedVariant, artifact: Artifact, folder: Path) -> Iterator[Finding]:
        said = {file.path: file for file in (*variant.files, *variant.extras)}
        made = {file.path: file for file in (*artifact.files, *artifact.extras)}
        for path in sorted({*said, *made}):
            theirs, ours = said.get(path), made.get(path)
            if theirs is None or ours is None:
                what = "makes it, and it was not published" if theirs is None else "does not make it"
                yield Finding(file=path, what=f"the rebuild of {variant.recipe} {what}")
            elif theirs.sha256 != ours.sha256:
                yield differs(path, f"SHA-256 of the rebuild of {variant.recipe}", theirs.sha256, ours.sha256)
                yield from self._details(theirs, folder / path)

    def _details(self, theirs: ArtifactFile, rebuilt: Path) -> Iterator[Finding]:
        """What is different in it, where what is published is what the receipt lists."""
        listed = next((file for file in self.there.files if file.path == theirs.path), None)
        if listed is None or listed.size != theirs.size:
            return
        workspace = Workspace(self.mill.settings)
        try:
            workspace.require(theirs.size)
        except NotEnoughRoom as error:
            yield Finding(file=theirs.path, what=f"how it differs cannot be shown: {error.message}", warning=True)
            return
        home = workspace.root / "tmp"
        home.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".run-", dir=home) as folder:
            published = Path(folder) / "published"
            telling = Telling(self.ear, BUILD, "compare")
            with published.open("wb") as out:
                hashed(
                    self.mill.hub, self.there, listed,
                    lambda size: telling.progress(theirs.path, size, theirs.size, "bytes"), out.write,
                )  # fmt: skip
            for said in difference.explained(rebuilt, published):
                yield Finding(file=theirs.path, what=said)


def _row(
    publication: Publication, variant: PublishedVariant, status: Literal["identical", "differs", "not_rebuilt"]
) -> Rebuilt:
    files = len(variant.files) + len(variant.extras)
    sha = receipts.made_at(publication, variant)
    return Rebuilt(recipe=variant.recipe, status=status, source_sha=sha, files=files)
