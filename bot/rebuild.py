"""Makes the variants of a published repo again, from their source commit, and compares bytes. Publishes nothing.

The source is fetched at its commit and converted by the stages of a build, in work folders of its own: nothing that
an earlier build made is taken for granted.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bot import VERSION, catalog, difference, preflight, recipes, toolchain
from bot import receipt as receipts
from bot.admission import Admission
from bot.agreement import Finding, differs
from bot.builds import BuildRequest
from bot.errors import (
    AccessDenied,
    ConverterFailed,
    GatedSource,
    InvalidRepoId,
    NotEnoughRoom,
    RepoUnavailable,
    SourceCorrupt,
    UsageError,
    VerdictRefused,
)
from bot.models import Artifact, ArtifactFile, Frozen, Recipe, Release, RepoRef
from bot.publication import RECEIPT_PATH, Publication, PublishedVariant
from bot.recipes import Backend
from bot.stages import Stages
from bot.steps import Steps
from bot.telling import Ear, Telling
from bot.verify import Published, Rebuilt, hashed, source_of
from bot.workspace import Workspace

if TYPE_CHECKING:
    from bot.mill import Mill

BUILD = "rebuild"  # what its work is called where a build has its id
_NO_SOURCE = (RepoUnavailable, GatedSource, AccessDenied, InvalidRepoId, VerdictRefused, SourceCorrupt)


class Outcome(Frozen):
    """What rebuilding some variants showed."""

    rebuilt: tuple[Rebuilt, ...] = ()
    findings: tuple[Finding, ...] = ()


def chosen(there: Published, only: Sequence[str] = ()) -> tuple[PublishedVariant, ...]:
    """The variants that stand, or those of them that are asked for. None where the receipt cannot be read.

    Raises:
        UsageError: one that is asked for does not stand.
    """
    standing = {v.recipe: v for v in there.publication.variants} if there.publication else {}
    for recipe in only if there.publication else ():
        if recipe not in standing:
            known = ", ".join(standing) or "none"
            raise UsageError(f"{there.repo}@{there.revision} has no {recipe!r}.", f"It has {known}.")
    return tuple(standing[recipe] for recipe in dict.fromkeys(only or standing) if recipe in standing)


def rebuild(mill: Mill, there: Published, variants: Sequence[PublishedVariant], ear: Ear) -> Outcome:
    """Make `variants` again and compare them with what the receipt says of them.

    Raises:
        HubError: the Hub cannot be reached.
        ToolchainFailed: the backend's environment cannot be made.
    """
    publication = there.publication
    if publication is None or not variants:
        return Outcome()
    backend = recipes.backends().get(publication.backend)
    if backend is None:
        return _none(publication, variants, f"this phimill has no backend {publication.backend!r}")
    telling = Telling(ear, BUILD, "toolchains")
    toolchain.ensure(backend.id, on_progress=lambda line: telling.log("info", line), settings=mill.settings)
    outcomes = [Outcome(findings=tuple(_of_tools(publication, variants, mill)))]
    for sha, group in _by_commit(publication, variants).items():
        try:
            release = catalog.release(mill.hub, RepoRef(repo=source_of(publication), revision=sha))
            namespace = RepoRef.parse(publication.repo).owner
        except _NO_SOURCE as error:
            outcomes.append(_none(publication, group, error.message))
        else:
            outcomes.append(_Rebuilding(mill, there, publication, backend, release, ear, namespace).all(group))
    return _merged(outcomes)


def _by_commit(
    publication: Publication, variants: Iterable[PublishedVariant]
) -> Mapping[str, Sequence[PublishedVariant]]:
    found: dict[str, list[PublishedVariant]] = {}
    for variant in variants:
        found.setdefault(receipts.made_at(publication, variant), []).append(variant)
    return found


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        rebuilt=tuple(one for outcome in outcomes for one in outcome.rebuilt),
        findings=tuple(one for outcome in outcomes for one in outcome.findings),
    )


def _of_tools(publication: Publication, variants: Iterable[PublishedVariant], mill: Mill) -> Iterator[Finding]:
    """Where this machine's tools are not those of the receipt: then other bytes are no fault of the repo."""
    here = toolchain.lock_digest(publication.backend)
    for lock in sorted({v.toolchain for v in variants} - {here}):
        what = "toolchain digest: this machine has other tools, and other tools may make other bytes"
        yield differs(RECEIPT_PATH, what, lock, here, warning=True)
    versions = toolchain.named_versions(publication.backend, settings=mill.settings)
    for name in sorted({*publication.tools, *versions}):
        said, found = publication.tools.get(name, "nothing"), versions.get(name, "nothing")
        if said != found:
            yield differs(RECEIPT_PATH, f"version of {name}", said, found, warning=True)
    if publication.phimill != VERSION:
        what = "phimill's version: another one may make other bytes"
        yield differs(RECEIPT_PATH, what, publication.phimill, VERSION, warning=True)


def _none(publication: Publication, variants: Iterable[PublishedVariant], why: str) -> Outcome:
    """None of them can be made again."""
    rows, findings = [], []
    for variant in variants:
        rows.append(_row(publication, variant, "not_rebuilt"))
        findings.append(_not_rebuilt(variant, why))
    return Outcome(rebuilt=tuple(rows), findings=tuple(findings))


def _row(
    publication: Publication, variant: PublishedVariant, status: Literal["identical", "differs", "not_rebuilt"]
) -> Rebuilt:
    files = len(variant.files) + len(variant.extras)
    sha = receipts.made_at(publication, variant)
    return Rebuilt(recipe=variant.recipe, status=status, source_sha=sha, files=files)


def _not_rebuilt(variant: PublishedVariant, why: str) -> Finding:
    file = variant.files[0].path if variant.files else RECEIPT_PATH
    return Finding(file=file, what=f"{variant.recipe} cannot be rebuilt: {why}")


@dataclass
class _Rebuilding:
    """The variants of one repo that were made from one commit."""

    mill: Mill
    there: Published
    publication: Publication
    backend: Backend
    release: Release
    ear: Ear
    namespace: str

    def all(self, variants: Sequence[PublishedVariant]) -> Outcome:
        """Rebuild one after the other. Whatever happens, nothing that was made is left."""
        stages, outcomes = self._stages(), []
        known = {recipe.id: recipe for recipe in self.backend.recipes}
        try:
            for variant in variants:
                outcomes.append(self._one(stages, variant, known.get(variant.recipe)))
        finally:
            stages.clear()
        return _merged(outcomes)

    def _stages(self) -> Stages:
        settings = self.mill.settings
        request = BuildRequest(
            repo=self.release.repo,
            sha=self.release.sha,
            backend=self.backend.id,
            namespace=self.namespace,
            toolchain=toolchain.lock_digest(self.backend.id),
            targets=(),
        )
        steps, admission = Steps.in_foreground(BUILD, self.mill.journal), Admission(settings)
        apart = f"{BUILD} {uuid.uuid4().hex}"
        return Stages(settings, self.mill.hub, request, self.release, self.backend, steps, admission, apart=apart)

    def _one(self, stages: Stages, variant: PublishedVariant, recipe: Recipe | None) -> Outcome:
        if recipe is None or recipe.digest != variant.recipe_digest:
            changed = "this phimill has no such recipe" if recipe is None else "its recipe has changed since"
            return _none(self.publication, [variant], changed)
        if (why := self._hindrance(variant, recipe)) is not None:
            return _none(self.publication, [variant], why)
        folder = stages.folder(recipe)
        try:
            artifact = stages.convert(recipe, Telling(self.ear, BUILD, "convert", recipe.id))
            with Workspace(self.mill.settings).using(folder):
                findings = tuple(self._compared(variant, artifact, folder))
        except (ConverterFailed, NotEnoughRoom, *_NO_SOURCE) as error:
            return _none(self.publication, [variant], str(error))
        finally:
            stages.drop(recipe)
        row = _row(self.publication, variant, "differs" if findings else "identical")
        return Outcome(rebuilt=(row,), findings=findings)

    def _hindrance(self, variant: PublishedVariant, recipe: Recipe) -> str | None:
        """Why it cannot be made from this commit, or not here."""
        if catalog.classify_files(self.release).made_from != variant.made_from:
            return f"{self.release.repo}@{self.release.sha[:7]} has other files than it was made from"
        [verdict] = preflight.verdicts(self.release, [recipe], self.mill.hub, self.mill.settings)
        return " ".join(verdict.lacks if verdict.convertible else verdict.reasons) or None

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
