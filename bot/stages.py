"""The heavy stages of one build: fetch, reference, convert, evaluate. Each leaves a sealed folder in the workspace.

All of them run in children that hold no token. Asked again, a stage whose folder is still sealed costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bot import VERSION, catalog, costs, recipes, sandbox, toolchain
from bot.admission import Admission
from bot.builds import BuildRequest, Target
from bot.children import REFERENCE, Children, Work
from bot.doctor import memory_budget
from bot.errors import ConverterFailed
from bot.fetch import fetch
from bot.hub import Hub
from bot.measures import Fidelity
from bot.models import Artifact, ArtifactFile, Recipe, Release
from bot.publication import Declined, Publication, PublishedVariant
from bot.recipes import Backend
from bot.settings import Settings
from bot.steps import Steps
from bot.telling import Telling
from bot.workspace import Workspace

CALIBRATION = "converters/text/calibration.txt"
EVALUATION = "converters/text/evaluation.txt"
WINDOWS, WINDOW_TOKENS = 8, 256
# Converters put a folder in its place whole, so they need one they may write around it.
LOGPROBS = "logprobs"


class Stages:
    """What one build can have made for it. What it makes with another `apart` lies apart, so that it is made anew."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        request: BuildRequest,
        release: Release,
        backend: Backend,
        steps: Steps,
        admission: Admission,
        *,
        apart: str = "",
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._request = request
        self._release = release
        self._backend = backend
        self._steps = steps
        self._workspace = Workspace(settings)
        self._code = toolchain.code_path(settings=settings)
        self._children = Children(settings, admission, steps, release.parameters, self._code)
        # Folders are named by all that their content depends on: our own converters and texts too.
        self._apart = apart
        self._by = f"{self._code.name} {apart}".strip()
        self._made_with = f"{request.toolchain} {self._by}"
        self._proven: dict[str, Recipe] = {}  # the unquantized exports that something was measured against

    def tools(self, telling: Telling) -> dict[str, str]:
        """Make the environments this build needs; the versions of the packages its backend names."""
        for name in (REFERENCE, self._backend.id):
            toolchain.ensure(
                name, on_progress=lambda line: telling.log("info", line), settings=self._settings,
                cancelled=self._steps.cancelled,
            )  # fmt: skip
        return toolchain.named_versions(self._backend.id, settings=self._settings)

    def fresh(self, target: Target, tools: dict[str, str], declined: Sequence[Declined]) -> Publication:
        """The state that this build would publish into its target if that were empty, without a variant yet."""
        release, code = self._release, self._code
        return Publication(
            repo=target.repo,
            backend=self._backend.id,
            source=release.repo,
            source_sha=release.sha,
            source_files=release.files,
            architecture=release.architecture,
            parameters=release.parameters,
            original_context=release.traits.original_context,
            longrope=release.traits.longrope,
            traits=release.traits,
            license=release.license,
            license_link=release.license_link,
            language=release.language,
            private=release.private or self._request.private,
            digests=catalog.classify_files(release),
            version=target.version,
            complete=False,
            declined=tuple(declined),
            tools=tools,
            calibration_sha256=hashlib.sha256((code / CALIBRATION).read_bytes()).hexdigest(),
            evaluation_sha256=hashlib.sha256((code / EVALUATION).read_bytes()).hexdigest(),
            sandbox=str(sandbox.probe()),
            phimill=VERSION,
        )

    def folder(self, recipe: Recipe) -> Path:
        """Where a variant's files lie until it is published."""
        return self._workspace.variant_dir(self._request, f"{recipe.id} {self._by}")

    def convert(self, recipe: Recipe, telling: Telling) -> Artifact:
        """One variant's files, made if they are not there."""
        folder, workspace = self.folder(recipe), self._workspace
        with workspace.making(folder, self._steps.cancelled):
            if (seal := workspace.sealed(folder)) is not None:
                return Artifact.model_validate(seal.facts["artifact"])
            source = self._source(telling)
            shared = workspace.shared_dir(self._release, self._backend.id, self._made_with)
            with workspace.using(source), workspace.making(shared, self._steps.cancelled):
                workspace.require(int(self._release.parameters * recipe.bits_per_weight / 8))
                shared.mkdir(exist_ok=True)
                request = self._convert_request(recipe, source, workspace.clear(folder), shared)
                memory = costs.converting(self._release, recipe, self._backend.costs)
                work = Work(self._backend.id, f"convert {recipe.id}", memory, (source,), (shared,), folder)
                reply = self._children.call(work, request, telling)
            artifact = reply.artifacts[0]
            if artifact.recipe != recipe.id:
                raise ConverterFailed(f"The converter made {artifact.recipe} when asked for {recipe.id}.")
            facts = {"artifact": artifact.model_dump(mode="json")}
            workspace.seal(folder, facts, {f.path: f.sha256 for f in (*artifact.files, *artifact.extras)})
            return artifact

    def place(self, recipe: Recipe, variant: PublishedVariant, bring: Callable[[ArtifactFile, Path], object]) -> None:
        """Have the files of a published variant where `convert` makes its own, so that they are what is proven."""
        folder, workspace = self.folder(recipe), self._workspace
        artifact = Artifact(recipe=recipe.id, files=variant.files, bits_per_weight=variant.bits_per_weight)
        with workspace.making(folder, self._steps.cancelled):
            workspace.require(artifact.bytes)
            workspace.clear(folder)
            for file in artifact.files:
                bring(file, folder)
            facts = {"artifact": artifact.model_dump(mode="json")}
            workspace.seal(folder, facts, {file.path: file.sha256 for file in artifact.files})

    def _convert_request(self, recipe: Recipe, source: Path, out: Path, shared: Path) -> dict[str, Any]:
        release, code = self._release, self._code
        repo = recipe.target(self._request.namespace, release.name)
        return {
            "verb": "convert",
            "source": str(source),
            "out": str(out),
            "shared": str(shared),
            "recipe": {"id": recipe.id, "file": recipe.file, "options": recipe.options},
            "model_name": release.name,
            "calibration": str(code / CALIBRATION),
            "metadata": {
                "source_repo": release.repo,
                "source_url": f"https://huggingface.co/{release.repo}",
                "source_revision": release.sha,
                "repo_url": f"https://huggingface.co/{repo}",
                "license": release.license or "",
                "license_link": release.license_link or "",
                "languages": list(release.language),
                "tags": list(self._backend.tags),
            },
            "split_bytes": self._settings.split_bytes,
        }

    def prove(self, recipe: Recipe, telling: Telling) -> Fidelity:
        """How far a variant is from the source, and from its backend's unquantized export."""
        baseline = recipes.by_id([recipe.baseline])[0]
        self._proven[baseline.id] = baseline
        measured = self._prove_baseline(baseline, telling)
        if recipe.id == baseline.id:
            return measured
        folder = self._baseline_dir(baseline)
        with self._workspace.using(folder):
            return self._evaluate(recipe, telling, {"baseline": str(folder / LOGPROBS)}, read=(folder,))

    def _baseline_dir(self, baseline: Recipe) -> Path:
        return self._workspace.reference_dir(self._release, f"{self._made_with} {baseline.digest}")

    def _prove_baseline(self, recipe: Recipe, telling: Telling) -> Fidelity:
        """Measure an unquantized export once, and keep its own log-probabilities for all the others."""
        folder = self._baseline_dir(recipe)
        with self._workspace.making(folder, self._steps.cancelled):
            if (seal := self._workspace.sealed(folder)) is not None:
                return Fidelity.model_validate(seal.facts["fidelity"])
            self._workspace.clear(folder)
            kept = {"save_baseline": str(folder / LOGPROBS)}
            fidelity = self._evaluate(recipe, telling, kept, out=folder)
            self._workspace.seal(folder, {"fidelity": fidelity.model_dump(mode="json")})
            return fidelity

    def _evaluate(
        self,
        recipe: Recipe,
        telling: Telling,
        extra: dict[str, str],
        *,
        read: tuple[Path, ...] = (),
        out: Path | None = None,
    ) -> Fidelity:
        artifact = self.convert(recipe, telling)
        source, reference, folder = self._source(telling), self._reference(telling), self.folder(recipe)
        request = {
            "verb": "evaluate",
            "artifact": str(folder / artifact.files[0].path),
            "reference": str(reference / LOGPROBS),
            "source": str(source),
            **extra,
        }
        memory = costs.evaluating(self._release, recipe, self._backend.costs)
        work = Work(self._backend.id, f"evaluate {recipe.id}", memory, (folder, reference, source, *read), out=out)
        with self._workspace.using(folder), self._workspace.using(reference), self._workspace.using(source):
            reply = self._children.call(work, request, telling)
        try:
            return Fidelity.model_validate(reply.metrics.values if reply.metrics else {})
        except ValidationError as error:
            raise ConverterFailed("The converter's figures cannot be read.", str(error.errors()[0]["msg"])) from error

    def _reference(self, telling: Telling) -> Path:
        """The source's own log-probabilities, computed once per release and shared by all backends."""
        workspace = self._workspace
        folder = workspace.reference_dir(self._release, f"{toolchain.lock_digest(REFERENCE)} {self._code.name}")
        with workspace.making(folder, self._steps.cancelled):
            if workspace.sealed(folder) is None:
                source, out = self._source(telling), workspace.clear(folder)
                request = {
                    "verb": "evaluate",
                    "source": str(source),
                    "out": str(out / LOGPROBS),
                    "text": str(self._code / EVALUATION),
                    "windows": WINDOWS,
                    "window_tokens": WINDOW_TOKENS,
                }
                memory = costs.referencing(self._release, memory_budget(self._settings))
                with workspace.using(source):
                    self._children.call(Work(REFERENCE, REFERENCE, memory, (source,), out=out), request, telling)
                workspace.seal(folder, {})
        return folder

    def _source(self, telling: Telling) -> Path:
        return fetch(
            self._hub,
            self._release,
            self._workspace,
            lambda done, total: telling.progress("download", done, total, "bytes"),
            self._steps.cancelled,
        )

    def variant(self, recipe: Recipe, version: str, artifact: Artifact, fidelity: Fidelity) -> PublishedVariant:
        """The variant as it will stand on the card and in the receipt."""
        return PublishedVariant(
            recipe=recipe.id,
            title=recipe.title,
            precision=recipe.precision,
            preset=recipe.preset,
            suits=recipe.suits,
            devices=recipe.devices,
            recipe_digest=recipe.digest,
            toolchain=self._request.toolchain,
            made_from=catalog.classify_files(self._release).made_from,
            version=version,
            files=artifact.files,
            extras=artifact.extras,
            bits_per_weight=artifact.bits_per_weight,
            fidelity=fidelity,
            by_hand=recipe.by_hand,
            caveat=recipe.known_error(self._release.traits) or "",
            facts=artifact.facts,
        )

    def drop(self, recipe: Recipe) -> None:
        """Delete a published variant's files, so that a small disk serves a large ladder."""
        self._workspace.drop(self.folder(recipe))

    def clear(self) -> None:
        """Delete what only this build needed. The source and the reference stay for the next backend."""
        with suppress(OSError):
            made = recipes.by_id(self._request.recipes)
            for recipe in (*made, *recipes.by_id(r.baseline for r in made), *self._proven.values()):
                self.drop(recipe)
            for recipe in self._proven.values() if self._apart else ():
                self._workspace.drop(self._baseline_dir(recipe))
            shared = self._workspace.shared_dir(self._release, self._backend.id, self._made_with)
            self._workspace.drop(shared)
