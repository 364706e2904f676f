"""One build, from a release to its tag: the steps that the engine makes durable.

Every step looks before it acts. What a step made lies sealed in the workspace, so that a step whose result is stored
but whose files are on another machine, or gone, makes them again, byte for byte.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

from bot import catalog, endings, ledger, preflight, recipes
from bot.admission import Admission
from bot.builds import BuildRequest, Failure, Target, VariantResult
from bot.errors import AccessDenied, ConverterFailed, GateFailed, PhimillError, SignInNeeded
from bot.fidelity import judge
from bot.hub import Hub
from bot.job import Job
from bot.measures import Fidelity
from bot.models import ArtifactFile, Frozen, Recipe, Release, RepoRef
from bot.publication import Declined, Publication, PublishedVariant
from bot.publisher import Publisher
from bot.settings import Settings
from bot.stages import Stages
from bot.steps import Outcome, Steps
from bot.telling import Telling
from bot.tokens import Keyring

__all__ = ["Builder"]


class Proof(Frozen):
    """What was measured, and of which bytes."""

    fidelity: Fidelity
    files: tuple[ArtifactFile, ...]


class Builder:
    """Runs builds. What the engine calls for every build it takes from the queue."""

    def __init__(self, settings: Settings, hub: Hub, publisher: Publisher, keys: Keyring | None = None) -> None:
        self._settings = settings
        self._admission = Admission(settings)
        self._hub = hub
        self._publisher = publisher
        self._keys = keys or Keyring()

    def __call__(self, request: BuildRequest, steps: Steps) -> Outcome:
        with self._admission.building():
            return self._for(request.asker, steps)._built(request, steps)

    def _for(self, asker: str | None, steps: Steps) -> Builder:
        """A builder that reads and writes as `asker`. The mill's own token never serves somebody else's build."""
        if asker is None:
            return self
        ask = self._keys.asking(asker)
        try:
            ask()
        except SignInNeeded as error:
            steps.leave_for_sign_in(error)
        theirs = copy(self)
        theirs._hub = Hub(self._hub.endpoint, ask)
        theirs._publisher = Publisher(theirs._hub, ask, self._publisher.signer)
        return theirs

    def _built(self, request: BuildRequest, steps: Steps) -> Outcome:
        results: list[VariantResult] = []
        finished: dict[str, Publication | None] = {}
        try:
            job = self._open(request, steps)
            if request.recipes:
                self._publisher_ready(job)
                self._variants(job, results, finished)
            for target in request.targets:
                if target.repo not in finished:
                    finished[target.repo] = self._finish(job, target, results)
            job.stages.clear()
            failure = endings.first_failure(results)
        except PhimillError as error:
            failure = Failure.of(error)
        return Outcome(results=tuple(endings.tagged(r, finished) for r in results), failure=failure)

    def _open(self, request: BuildRequest, steps: Steps) -> Job:
        backend = recipes.backends()[request.backend]
        stored = steps.run("release", lambda: self._look_at(request, steps))
        release = Release.model_validate(stored["release"])
        stages = Stages(self._settings, self._hub, request, release, backend, steps, self._admission)
        tools = steps.run("toolchains", lambda: stages.tools(Telling(steps.journal, steps.build, "toolchains")))
        fresh = {}
        for target in request.targets:
            declined = [Declined.model_validate(item) for item in stored["declined"].get(target.repo, [])]
            fresh[target.repo] = stages.fresh(target, tools, declined)
        return Job(request, steps, release, backend, fresh, stages)

    def _look_at(self, request: BuildRequest, steps: Steps) -> dict[str, Any]:
        """The release, and by repo, which of the default recipes its verdict refuses."""
        Telling(steps.journal, steps.build, "release")
        release = catalog.release(self._hub, RepoRef(repo=request.repo, revision=request.sha))
        made_from = catalog.classify_files(release).made_from
        groups = recipes.by_target(recipes.defaults(request.backend), request.namespace, release.name)
        defaults = [recipe for target in request.targets for recipe in groups.get(target.repo, ())]
        declined: dict[str, list[dict[str, Any]]] = {}
        for recipe, verdict in zip(
            defaults, preflight.verdicts(release, defaults, self._hub, self._settings), strict=True
        ):
            if not verdict.convertible:
                why = Declined(
                    recipe=recipe.id, recipe_digest=recipe.digest, toolchain=request.toolchain, made_from=made_from,
                    by="verdict", reason=" ".join(verdict.reasons),
                )  # fmt: skip
                repo = recipe.target(request.namespace, release.name)
                declined.setdefault(repo, []).append(why.model_dump(mode="json"))
        return {"release": release.model_dump(mode="json"), "declined": declined}

    def _publisher_ready(self, job: Job) -> None:
        """Fail before hours of work, not after, when the result could not be published."""

        def may_publish() -> None:
            self._publisher.check_may_write(job.request.namespace)
            for repo, fresh in job.fresh.items():
                if job.request.asker is not None:
                    self._publisher.check_may_change(repo)
                if job.request.private:
                    self._publisher.check_private(repo)
                ledger.begin(self._publisher.head(repo).publication, fresh)

        job.steps.run("may publish", may_publish)

    def _variants(self, job: Job, results: list[VariantResult], finished: dict[str, Publication | None]) -> None:
        """Every variant in turn, an unquantized one before what is measured against it. With the last variant of a
        repo, the repo is finished: nobody waits for the others.
        """
        todo = self._missing(job, results)
        faults: dict[str, VariantResult | None] = {}
        for at, recipe in enumerate(todo):
            baseline = recipes.by_id([recipe.baseline])[0]
            if baseline.id not in faults:
                faults[baseline.id] = self._check_runtime(job, baseline)
                if baseline not in todo:
                    job.stages.drop(baseline)  # its log-probabilities stay, and they are all that the others need
            repo = job.fresh_for(recipe).repo
            last = all(job.fresh_for(other).repo != repo for other in todo[at + 1 :])
            if (fault := faults[baseline.id]) is not None:
                results.append(fault.model_copy(update={"recipe": recipe.id}))
            else:
                results.append(self._variant(job, recipe, last=last))
            if last:
                [target] = (t for t in job.request.targets if t.repo == repo)
                finished[repo] = self._finish(job, target, results)

    def _missing(self, job: Job, results: list[VariantResult]) -> list[Recipe]:
        """What is to be made, in order; what stands already becomes a result."""
        asked = recipes.by_id(job.request.recipes)
        todo = []
        for recipe in sorted(asked, key=lambda r: (r.baseline, r.id != r.baseline, -r.bits_per_weight, r.id)):
            there = job.steps.run(f"look {recipe.id}", partial(self._there, job, recipe))
            if there:
                found = PublishedVariant.model_validate(there)
                results.append(endings.published(job.fresh_for(recipe).repo, found, built=False, tag=None))
            else:
                todo.append(recipe)
        return todo

    def _check_runtime(self, job: Job, baseline: Recipe) -> VariantResult | None:
        """Convert and measure an unquantized export. None, or how all that would be measured against it ends."""
        try:
            problem = self._problem(job, baseline, self._prove(job, baseline).fidelity)
        except ConverterFailed as error:
            return VariantResult(recipe=baseline.id, status="failed", reason=str(error))
        return None if problem is None else VariantResult(recipe=baseline.id, status="gate_failed", reason=problem)

    def _prove(self, job: Job, recipe: Recipe) -> Proof:
        def convert() -> dict[str, Any]:
            return job.stages.convert(recipe, job.telling("convert", recipe.id)).model_dump(mode="json")

        def prove() -> dict[str, Any]:
            telling = job.telling("prove", recipe.id)
            fidelity = job.stages.prove(recipe, telling)
            artifact = job.stages.convert(recipe, telling)
            return Proof(fidelity=fidelity, files=(*artifact.files, *artifact.extras)).model_dump(mode="json")

        job.steps.run(f"convert {recipe.id}", convert)
        return Proof.model_validate(job.steps.run(f"prove {recipe.id}", prove))

    def _variant(self, job: Job, recipe: Recipe, *, last: bool) -> VariantResult:
        """Convert, prove and publish one variant. Its own failures are its result; the Hub's end the build."""
        try:
            proof = self._prove(job, recipe)
            if problem := self._problem(job, recipe, proof.fidelity):
                return endings.failed_gate(recipe, proof.fidelity, problem)
            published = job.steps.run(f"publish {recipe.id}", lambda: self._publish(job, recipe, proof, last=last))
            repo = job.fresh_for(recipe).repo
            return endings.published(repo, PublishedVariant.model_validate(published), built=True, tag=None)
        except (ConverterFailed, GateFailed) as error:
            return VariantResult(recipe=recipe.id, status="failed", reason=str(error))

    def _problem(self, job: Job, recipe: Recipe, fidelity: Fidelity) -> str | None:
        unquantized, known = recipe.id == recipe.baseline, recipe.known_error(job.release.traits) is not None
        problem = judge(fidelity, recipe.precision, self._settings, unquantized=unquantized, known_error=known)
        if problem is not None:
            _report(job, recipe, fidelity, problem)
        return problem

    def _there(self, job: Job, recipe: Recipe) -> dict[str, Any] | None:
        fresh = job.fresh_for(recipe)
        found = ledger.stands(
            self._publisher.head(fresh.repo).publication, recipe.id, recipe.digest, fresh.digests.made_from
        )
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
        if (*artifact.files, *artifact.extras) != proof.files:
            # Made again, on another machine or with another number of threads: what is published is what was proven.
            telling.log("warning", "The files differ from the ones that were measured; measuring these.")
            fidelity = job.stages.prove(recipe, telling)
            if problem := self._problem(job, recipe, fidelity):
                raise GateFailed(problem, "Run the build again.")
        fresh = job.fresh_for(recipe)
        variant = job.stages.variant(recipe, fresh.version, artifact, fidelity)
        self._publisher.publish(job.backend, fresh, variant, job.stages.folder(recipe), last=last)
        telling.log("info", f"{fresh.repo} has {variant.files[0].path}")
        job.stages.drop(recipe)
        return variant.model_dump(mode="json")

    def _finish(self, job: Job, target: Target, results: list[VariantResult]) -> Publication | None:
        """Complete the version of one repo, tag it and put it into its collection."""

        def finish() -> dict[str, Any] | None:
            telling = job.telling("finish")
            state = self._complete(job, target, results)
            if state is not None and state.complete:
                for version in self._publisher.untagged(state):
                    self._publisher.tag(state.repo, version)
                    telling.log("info", f"{state.repo} has {version}")
                self._collect(job, state, telling)
            return None if state is None else state.model_dump(mode="json")

        stored = job.steps.run(f"finish {target.repo}", finish)
        return None if stored is None else Publication.model_validate(stored)

    def _collect(self, job: Job, state: Publication, telling: Telling) -> None:
        if job.request.asker is None:
            self._publisher.collect(state)
        elif not job.request.private:  # a collection's title would tell of it
            try:
                self._publisher.collect(state)
            except AccessDenied:
                telling.log("info", "No collection: what its asker allowed is repos and not collections.")

    def _complete(self, job: Job, target: Target, results: list[VariantResult]) -> Publication | None:
        fresh = job.fresh[target.repo]
        if not target.recipes:
            return self._publisher.refresh(job.backend, fresh)
        declined = [job.declined(r) for r in results if r.status == "gate_failed" and r.recipe in target.recipes]
        return self._publisher.complete(job.backend, fresh, declined)


def _report(job: Job, recipe: Recipe, fidelity: Fidelity, problem: str) -> None:
    """Keep in the log everything that was measured of what is not published."""
    telling = job.telling("prove", recipe.id)
    telling.log("error", problem)
    telling.log("info", f"measured: {fidelity.model_dump_json(exclude={'samples'})}")
