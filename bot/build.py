"""One build, from a release to its tag: the steps that the engine makes durable.

Every step looks before it acts. What a step made lies sealed in the workspace, so that a step whose result is stored
but whose files are on another machine, or gone, makes them again, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from bot import catalog, ledger, preflight, recipes
from bot.builds import Failure
from bot.errors import ConverterFailed, GateFailed, PhimillError
from bot.fidelity import judge
from bot.hub import Hub
from bot.models import ArtifactFile, BuildRequest, Fidelity, Frozen, Recipe, Release, RepoRef, Status, VariantResult
from bot.planning import variant_result
from bot.publication import Declined, Publication, PublishedVariant
from bot.publisher import Publisher
from bot.recipes import Backend
from bot.settings import Settings
from bot.stages import Stages
from bot.steps import Outcome, Steps
from bot.telling import Telling

__all__ = ["Builder"]


@dataclass(frozen=True)
class Job:
    """What the steps of one build have in common."""

    request: BuildRequest
    steps: Steps
    release: Release
    backend: Backend
    fresh: Publication
    stages: Stages

    def telling(self, stage: str, recipe: str | None = None) -> Telling:
        return Telling(self.steps.journal, self.steps.build, stage, recipe)


class Proof(Frozen):
    """What was measured, and of which bytes."""

    fidelity: Fidelity
    files: tuple[ArtifactFile, ...]


class Builder:
    """Runs builds. What the engine calls for every build it takes from the queue."""

    def __init__(self, settings: Settings, hub: Hub, publisher: Publisher) -> None:
        self._settings = settings
        self._hub = hub
        self._publisher = publisher

    def __call__(self, request: BuildRequest, steps: Steps) -> Outcome:
        results: list[VariantResult] = []
        try:
            job = self._open(request, steps)
            if request.recipes:
                self._publisher_ready(job)
                self._variants(job, results)
            publication = self._finish(job, results)
            failure = _first_failure(results)
        except PhimillError as error:
            publication, failure = None, Failure.of(error)
        return Outcome(results=tuple(_tagged(r, publication) for r in results), failure=failure)

    def _open(self, request: BuildRequest, steps: Steps) -> Job:
        backend = recipes.backends()[request.backend]
        stored = steps.run("release", lambda: self._look_at(request, steps))
        release = Release.model_validate(stored["release"])
        declined = tuple(Declined.model_validate(item) for item in stored["declined"])
        stages = Stages(self._settings, self._hub, request, release, backend, steps)
        tools = steps.run("toolchains", lambda: stages.tools(Telling(steps.journal, steps.build, "toolchains")))
        return Job(request, steps, release, backend, stages.fresh(tools, declined), stages)

    def _look_at(self, request: BuildRequest, steps: Steps) -> dict[str, Any]:
        """The release, and which of the backend's default recipes its verdict refuses."""
        Telling(steps.journal, steps.build, "release")
        release = catalog.release(self._hub, RepoRef(repo=request.repo, revision=request.sha))
        defaults = recipes.defaults(request.backend)
        verdicts = preflight.verdicts(release, defaults, self._hub, self._settings)
        made_from = catalog.classify_files(release).made_from
        declined = [
            Declined(recipe=r.id, recipe_digest=r.digest, toolchain=request.toolchain, made_from=made_from,
                     by="verdict", reason=" ".join(v.reasons))
            for r, v in zip(defaults, verdicts, strict=True)
            if v.status in (Status.UNSUPPORTED, Status.KNOWN_BROKEN)
        ]  # fmt: skip
        return {
            "release": release.model_dump(mode="json"),
            "declined": [d.model_dump(mode="json") for d in declined],
        }

    def _publisher_ready(self, job: Job) -> None:
        """Fail before hours of work, not after, when the result could not be published."""

        def may_publish() -> None:
            self._publisher.check_may_write(job.request.namespace)
            ledger.begin(self._publisher.head(job.fresh.repo).publication, job.fresh)

        job.steps.run("may publish", may_publish)

    def _variants(self, job: Job, results: list[VariantResult]) -> None:
        """Every variant in turn, the unquantized one first: if that is off, none of the others can be right."""
        baseline = recipes.by_id([job.backend.baseline])[0]
        order = sorted(
            recipes.by_id(job.request.recipes), key=lambda r: (r.id != baseline.id, -r.bits_per_weight, r.id)
        )
        todo = []
        for recipe in order:
            there = job.steps.run(f"look {recipe.id}", partial(self._there, job, recipe))
            if there:
                found = PublishedVariant.model_validate(there)
                results.append(variant_result(job.fresh.repo, found, built=False, tag=None))
            else:
                todo.append(recipe)
        fault = self._check_runtime(job, baseline) if todo else None
        if todo and baseline not in todo:
            job.stages.drop(baseline)  # its log-probabilities stay, and they are all that the others need
        for recipe in todo:
            if fault is not None:
                results.append(VariantResult(recipe=recipe.id, status="gate_failed", reason=fault))
            else:
                results.append(self._variant(job, recipe, last=recipe is todo[-1]))

    def _check_runtime(self, job: Job, baseline: Recipe) -> str | None:
        """Convert and measure the backend's unquantized export. What is wrong with it, in one sentence, or None."""
        proof = self._prove(job, baseline)
        fault = judge(proof.fidelity, baseline.precision, self._settings, unquantized=True)
        if fault is not None:
            _report(job, baseline, proof.fidelity, fault)
        return fault

    def _prove(self, job: Job, recipe: Recipe) -> Proof:
        def convert() -> dict[str, Any]:
            return job.stages.convert(recipe, job.telling("convert", recipe.id)).model_dump(mode="json")

        def prove() -> dict[str, Any]:
            telling = job.telling("prove", recipe.id)
            fidelity = job.stages.prove(recipe, telling)
            return Proof(fidelity=fidelity, files=job.stages.convert(recipe, telling).files).model_dump(mode="json")

        job.steps.run(f"convert {recipe.id}", convert)
        return Proof.model_validate(job.steps.run(f"prove {recipe.id}", prove))

    def _variant(self, job: Job, recipe: Recipe, *, last: bool) -> VariantResult:
        """Convert, prove and publish one variant. Its own failures are its result; the Hub's end the build."""
        try:
            proof = self._prove(job, recipe)
            if problem := self._problem(job, recipe, proof.fidelity):
                return _failed_gate(recipe, proof.fidelity, problem)
            published = job.steps.run(f"publish {recipe.id}", lambda: self._publish(job, recipe, proof, last=last))
            return variant_result(job.fresh.repo, PublishedVariant.model_validate(published), built=True, tag=None)
        except (ConverterFailed, GateFailed) as error:
            return VariantResult(recipe=recipe.id, status="failed", reason=str(error))

    def _problem(self, job: Job, recipe: Recipe, fidelity: Fidelity) -> str | None:
        problem = judge(fidelity, recipe.precision, self._settings, unquantized=recipe.id == job.backend.baseline)
        if problem is not None:
            _report(job, recipe, fidelity, problem)
        return problem

    def _there(self, job: Job, recipe: Recipe) -> dict[str, Any] | None:
        head = self._publisher.head(job.fresh.repo).publication
        found = ledger.stands(head, recipe.id, recipe.digest, job.fresh.digests.made_from)
        if found is None or found.toolchain != job.request.toolchain:
            return None
        return found.model_dump(mode="json")

    def _publish(self, job: Job, recipe: Recipe, proof: Proof, *, last: bool) -> dict[str, Any]:
        telling = job.telling("publish", recipe.id)
        # A worker that died just after its commit left nothing to do, and perhaps no files to do it with.
        if there := self._there(job, recipe):
            job.stages.drop(recipe)
            return there
        artifact = job.stages.convert(recipe, telling)
        fidelity = proof.fidelity
        if artifact.files != proof.files:
            # Made again, on another machine or with another number of threads: what is published is what was proven.
            telling.log("warning", "The files differ from the ones that were measured; measuring these.")
            fidelity = job.stages.prove(recipe, telling)
            if problem := self._problem(job, recipe, fidelity):
                raise GateFailed(problem, "Run the build again.")
        variant = job.stages.variant(recipe, artifact, fidelity)
        self._publisher.publish(job.backend, job.fresh, variant, job.stages.folder(recipe), last=last)
        telling.log("info", f"{job.fresh.repo} has {', '.join(f.path for f in variant.files)}")
        job.stages.drop(recipe)
        return variant.model_dump(mode="json")

    def _finish(self, job: Job, results: list[VariantResult]) -> Publication | None:
        """Complete the version, tag it and put it into its collection."""

        def finish() -> dict[str, Any] | None:
            telling = job.telling("finish")
            state = self._complete(job, results)
            if state is not None and state.complete:
                for version in self._publisher.untagged(state):
                    self._publisher.tag(state.repo, version)
                    telling.log("info", f"{state.repo} has {version}")
                self._publisher.collect(state)
            job.stages.clear()
            return None if state is None else state.model_dump(mode="json")

        stored = job.steps.run("finish", finish)
        return None if stored is None else Publication.model_validate(stored)

    def _complete(self, job: Job, results: list[VariantResult]) -> Publication | None:
        declined = [_declined(job, r) for r in results if r.status == "gate_failed"]
        if not job.request.recipes:
            return self._publisher.refresh(job.backend, job.fresh)
        return self._publisher.complete(job.backend, job.fresh, declined)


def _report(job: Job, recipe: Recipe, fidelity: Fidelity, problem: str) -> None:
    """Keep in the log everything that was measured of what is not published."""
    telling = job.telling("prove", recipe.id)
    telling.log("error", problem)
    telling.log("info", f"measured: {fidelity.model_dump_json(exclude={'samples'})}")


def _failed_gate(recipe: Recipe, fidelity: Fidelity, problem: str) -> VariantResult:
    return VariantResult(
        recipe=recipe.id,
        status="gate_failed",
        reason=problem,
        kl_mean=fidelity.kl_mean,
        kl_p99=fidelity.kl_p99,
        top1=fidelity.top1,
        perplexity_ratio=fidelity.perplexity_ratio,
    )


def _declined(job: Job, result: VariantResult) -> Declined:
    recipe = recipes.by_id([result.recipe])[0]
    return Declined(
        recipe=recipe.id,
        recipe_digest=recipe.digest,
        toolchain=job.request.toolchain,
        made_from=job.fresh.digests.made_from,
        by="gate",
        reason=result.reason or "",
    )


def _tagged(result: VariantResult, publication: Publication | None) -> VariantResult:
    """The result with the tag it can be pulled at, once the version is complete."""
    if publication is None or not publication.complete or result.repo is None:
        return result
    return result.model_copy(update={"tag": publication.version})


def _first_failure(results: list[VariantResult]) -> Failure | None:
    for status, error in (("failed", ConverterFailed), ("gate_failed", GateFailed)):
        for result in results:
            if result.status == status:
                return Failure.of(error(f"{result.recipe}: {result.reason}", "Its log says more."))
    return None
