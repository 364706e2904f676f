"""Does again what a receipt says was done: takes the source at its commit, and publishes nothing.

What is to be done with each variant is a kind of `Again`: `rebuild.py` makes it again and compares bytes,
`remeasure.py` measures the published bytes again and compares figures. The stages are those of a build, in work
folders of their own: nothing that an earlier build made is taken for granted.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bot import VERSION, catalog, preflight, recipes, toolchain
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
from bot.models import Frozen, Recipe, Release, RepoRef
from bot.publication import RECEIPT_PATH, Publication, PublishedVariant
from bot.recipes import Backend
from bot.stages import Stages
from bot.steps import Steps
from bot.telling import Ear, Telling
from bot.verify import Measured, Published, Rebuilt, source_of

if TYPE_CHECKING:
    from bot.mill import Mill

BUILD = "verify"  # what its work is called where a build has its id
_NO_SOURCE = (RepoUnavailable, GatedSource, AccessDenied, InvalidRepoId, VerdictRefused, SourceCorrupt)


class Outcome(Frozen):
    """What doing it again showed of some variants."""

    rebuilt: tuple[Rebuilt, ...] = ()
    measured: tuple[Measured, ...] = ()
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


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """All of them as one."""
    return Outcome(
        rebuilt=tuple(one for outcome in outcomes for one in outcome.rebuilt),
        measured=tuple(one for outcome in outcomes for one in outcome.measured),
        findings=tuple(one for outcome in outcomes for one in outcome.findings),
    )


def again(kind: type[Again], mill: Mill, there: Published, variants: Sequence[PublishedVariant], ear: Ear) -> Outcome:
    """Do it again with `variants`, and compare with what the receipt says of them.

    Raises:
        HubError: the Hub cannot be reached.
        ToolchainFailed: an environment cannot be made.
    """
    publication = there.publication
    if publication is None or not variants:
        return Outcome()
    backend = recipes.backends().get(publication.backend)
    if backend is None:
        return kind.none(publication, variants, f"this phimill has no backend {publication.backend!r}")
    telling = Telling(ear, BUILD, "toolchains")
    for name in (*kind.needs, backend.id):
        toolchain.ensure(name, on_progress=lambda line: telling.log("info", line), settings=mill.settings)
    outcomes = [Outcome(findings=tuple(_of_tools(publication, variants, mill)))]
    for sha, group in _by_commit(publication, variants).items():
        try:
            release = catalog.release(mill.hub, RepoRef(repo=source_of(publication), revision=sha))
            namespace = RepoRef.parse(publication.repo).owner
        except _NO_SOURCE as error:
            outcomes.append(kind.none(publication, group, error.message))
        else:
            outcomes.append(kind(mill, there, publication, backend, release, ear, namespace).all(group))
    return merged(outcomes)


def _by_commit(
    publication: Publication, variants: Iterable[PublishedVariant]
) -> Mapping[str, Sequence[PublishedVariant]]:
    found: dict[str, list[PublishedVariant]] = {}
    for variant in variants:
        found.setdefault(receipts.made_at(publication, variant), []).append(variant)
    return found


def _of_tools(publication: Publication, variants: Iterable[PublishedVariant], mill: Mill) -> Iterator[Finding]:
    """Where this machine's tools are not those of the receipt: then other results are no fault of the repo."""
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


@dataclass
class Again:
    """Something done again with the variants of one repo that were made from one commit."""

    needs: ClassVar[tuple[str, ...]] = ()  # environments besides the backend's
    verb: ClassVar[str]  # what cannot be done to a variant, in a sentence

    mill: Mill
    there: Published
    publication: Publication
    backend: Backend
    release: Release
    ear: Ear
    namespace: str

    @classmethod
    def undone(cls, publication: Publication, variant: PublishedVariant) -> Outcome:
        """The row of a variant with which it could not be done."""
        raise NotImplementedError

    def one(self, stages: Stages, variant: PublishedVariant, recipe: Recipe) -> Outcome:
        """Do it with one variant. What the stages make in `recipe`'s folder is deleted afterwards."""
        raise NotImplementedError

    @classmethod
    def none(cls, publication: Publication, variants: Iterable[PublishedVariant], why: str) -> Outcome:
        """It can be done with none of them."""
        outcomes = []
        for variant in variants:
            file = variant.files[0].path if variant.files else RECEIPT_PATH
            finding = Finding(file=file, what=f"{variant.recipe} cannot be {cls.verb}: {why}")
            outcomes += [cls.undone(publication, variant), Outcome(findings=(finding,))]
        return merged(outcomes)

    def all(self, variants: Sequence[PublishedVariant]) -> Outcome:
        """One variant after the other. Whatever happens, nothing that was made is left."""
        stages, outcomes = self._stages(), []
        known = {recipe.id: recipe for recipe in self.backend.recipes}
        try:
            for variant in variants:
                outcomes.append(self._tried(stages, variant, known.get(variant.recipe)))
        finally:
            stages.clear()
        return merged(outcomes)

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

    def _tried(self, stages: Stages, variant: PublishedVariant, recipe: Recipe | None) -> Outcome:
        if recipe is None or recipe.digest != variant.recipe_digest:
            changed = "this phimill has no such recipe" if recipe is None else "its recipe has changed since"
            return self.none(self.publication, [variant], changed)
        if (why := self._hindrance(variant, recipe)) is not None:
            return self.none(self.publication, [variant], why)
        try:
            return self.one(stages, variant, recipe)
        except (ConverterFailed, NotEnoughRoom, *_NO_SOURCE) as error:
            return self.none(self.publication, [variant], str(error))
        finally:
            stages.drop(recipe)

    def _hindrance(self, variant: PublishedVariant, recipe: Recipe) -> str | None:
        """Why it cannot be made from this commit, or not here."""
        if catalog.classify_files(self.release).made_from != variant.made_from:
            return f"{self.release.repo}@{self.release.sha[:7]} has other files than it was made from"
        [verdict] = preflight.verdicts(self.release, [recipe], self.mill.hub, self.mill.settings)
        return " ".join(verdict.lacks if verdict.convertible else verdict.reasons) or None
