"""Tries a backend's candidate recipes on one release, and chooses by what was measured. Publishes nothing.

Every candidate goes through the stages of a build: the same children, the same reference, the same gate. What was
measured is kept in `<home>/tuning`, named by all that it depends on, so that an interrupted tuning goes on and another
rule costs nothing. A candidate's files are deleted once it is measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bot import VERSION, candidates, catalog, choice, preflight, recipes, sandbox, toolchain
from bot.admission import Admission
from bot.builds import BuildRequest
from bot.children import REFERENCE
from bot.choice import Candidate, Evidence, Tools
from bot.errors import ConverterFailed, NotEnoughRoom, UsageError, VerdictRefused
from bot.fidelity import judge
from bot.measures import Fidelity
from bot.models import Artifact, Frozen, Precision, Recipe, Release, RepoRef, Verdict, digest
from bot.recipes import Backend
from bot.seals import write_whole
from bot.settings import Settings
from bot.stages import CALIBRATION, EVALUATION, WINDOW_TOKENS, WINDOWS, Stages
from bot.steps import Steps
from bot.telling import Ear, Telling
from bot.ui import words
from bot.workspace import Workspace

if TYPE_CHECKING:
    from bot.mill import Mill

BUILD = "tune"  # what its work is called where a build has its id
NAMESPACE = "tuning"  # what files that are never published say of where they are


class Measured(Frozen):
    """What is kept of a candidate."""

    artifact: Artifact
    fidelity: Fidelity


@dataclass
class Tuning:
    """One tuning of one backend on one release. `faults`: what is wrong with each unquantized export, once known."""

    settings: Settings
    release: Release
    backend: Backend
    stages: Stages
    toolchain: str
    code: str
    ear: Ear
    faults: dict[str, str | None] = field(default_factory=dict)

    def tried(self, recipe: Recipe, verdict: Verdict) -> Candidate:
        """One candidate, measured if it can be. Its own failures are its result."""
        row = Candidate(
            recipe=recipe.id,
            title=recipe.title,
            own=recipe in self.backend.recipes,
            preset=recipe.preset,
            file=recipe.file,
            options=recipe.options,
            recipe_digest=recipe.digest,
            status="failed",
        )
        if not verdict.convertible or verdict.lacks:
            reason = " ".join((*verdict.reasons, *verdict.lacks))
            return row.model_copy(update={"status": "refused", "reason": reason})
        if fault := self._fault(recipes.by_id([recipe.baseline])[0]):
            return row.model_copy(update={"reason": fault})
        try:
            return self._judged(recipe, row, self._measured(recipe))
        except ConverterFailed as error:
            return row.model_copy(update={"reason": str(error)})

    def _judged(self, recipe: Recipe, row: Candidate, measured: Measured) -> Candidate:
        fidelity, artifact = measured.fidelity, measured.artifact
        kl, against = fidelity.kl_mean, "source"
        if self._known_error(recipe) and fidelity.baseline_kl_mean is not None:
            kl, against = fidelity.baseline_kl_mean, "baseline"
        problem = self._problem(recipe, fidelity)
        figures = {"kl": kl, "against": against, "bytes": artifact.bytes, "files": artifact.files}
        figures |= {
            "bits_per_weight": artifact.bits_per_weight,
            "fidelity": fidelity.model_copy(update={"samples": ()}),
        }
        return row.model_copy(
            update={**figures, "status": "gate_failed" if problem else "measured", "reason": problem}
        )

    def _fault(self, baseline: Recipe) -> str | None:
        """What is wrong with the export that candidates are measured against: then all of them are."""
        if baseline.id not in self.faults:
            try:
                problem = self._problem(baseline, self._measured(baseline).fidelity)
            except ConverterFailed as error:
                problem = str(error)
            self.faults[baseline.id] = problem and f"{baseline.id}: {problem}"
        return self.faults[baseline.id]

    def _problem(self, recipe: Recipe, fidelity: Fidelity) -> str | None:
        unquantized = recipe.id == recipe.baseline
        known = self._known_error(recipe)
        return judge(fidelity, recipe.precision, self.settings, unquantized=unquantized, known_error=known)

    def _known_error(self, recipe: Recipe) -> bool:
        return recipe.known_error(self.release.traits) is not None

    def _measured(self, recipe: Recipe) -> Measured:
        kept = self._kept_at(recipe)
        with suppress(FileNotFoundError, ValidationError):
            found = Measured.model_validate_json(kept.read_bytes())
            self.ear.write(BUILD, "info", BUILD, f"{recipe.id} was measured before")
            return found
        try:
            artifact = self.stages.convert(recipe, Telling(self.ear, BUILD, "convert", recipe.id))
            fidelity = self.stages.prove(recipe, Telling(self.ear, BUILD, "prove", recipe.id))
        except ConverterFailed as error:
            self.stages.drop(recipe)
            self.ear.write(BUILD, "warning", BUILD, f"{recipe.id}: {error}")
            raise
        measured = Measured(artifact=artifact, fidelity=fidelity)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, measured.model_dump_json().encode())
        self.stages.drop(recipe)
        said = f"{words.size(artifact.bytes)}, mean KL {words.nats(fidelity.kl_mean)}"
        self.ear.write(BUILD, "info", BUILD, f"{recipe.id}: {said}")
        return measured

    def _kept_at(self, recipe: Recipe) -> Path:
        made_with = self.toolchain, toolchain.lock_digest(REFERENCE), self.code, WINDOWS, WINDOW_TOKENS
        key = digest(recipe.id, recipe.digest, recipe.baseline, *made_with)[:32]
        return folder(self.settings, self.release.repo, self.release.sha) / "measured" / f"{key}.json"

    def tools(self) -> Tools:
        """The environments, made if they are not there, and all else that the figures depend on."""
        versions = self.stages.tools(Telling(self.ear, BUILD, "toolchains"))
        code = toolchain.code_path(settings=self.settings)
        return Tools(
            toolchain=self.toolchain,
            versions=versions,
            reference=toolchain.lock_digest(REFERENCE),
            code=self.code,
            calibration_sha256=hashlib.sha256((code / CALIBRATION).read_bytes()).hexdigest(),
            evaluation_sha256=hashlib.sha256((code / EVALUATION).read_bytes()).hexdigest(),
            windows=WINDOWS,
            window_tokens=WINDOW_TOKENS,
            sandbox=str(sandbox.probe()),
            phimill=VERSION,
        )


def tune(
    mill: Mill, ear: Ear, text: str, backend: str, precision: Precision, asked: Sequence[str] = (), ratio: float = 1.05
) -> Evidence:
    """Measure the candidates of a precision (those asked for, or all) and choose one: the lowest KL among those that
    have at most `ratio` times the size of the cookbook's recipe.

    Raises:
        UsageError: there is no such backend or candidate.
        VerdictRefused: none of them can be made of this release.
        HubError, NotEnoughRoom, SourceCorrupt: as in a build. What is measured by then is kept.
    """
    if backend not in recipes.backends():
        raise UsageError(f"There is no backend {backend!r}.", f"There are {', '.join(recipes.backends())}.")
    made = recipes.backends()[backend]
    release = catalog.release(mill.hub, RepoRef.parse(text, mill.settings.endpoint))
    wanted = candidates.select(made, precision, release, asked)
    verdicts = preflight.verdicts(release, wanted, mill.hub, mill.settings)
    _require(verdicts)
    Workspace(mill.settings).sweep()
    tuning = _opened(mill, ear, release, made)
    tools = tuning.tools()
    tried = [tuning.tried(recipe, verdict) for recipe, verdict in zip(wanted, verdicts, strict=True)]
    tuning.stages.clear()
    size = candidates.yardstick(made, precision, release)
    return choice.concluded(release, precision, tools, wanted, tried, choice.ruled(tried, size.id, ratio))


def _require(verdicts: Sequence[Verdict]) -> None:
    """That something can be made of the release, and here."""
    able = [verdict for verdict in verdicts if verdict.convertible]
    if not able:
        reasons = dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons)
        raise VerdictRefused(f"None of it can be made: {' '.join(reasons)}", "`phimill check` says more.")
    if all(verdict.lacks for verdict in able):
        least = min(able, key=lambda verdict: len(verdict.lacks))
        raise NotEnoughRoom(f"{least.recipe}: {' '.join(least.lacks)}", "Use a larger machine, or try less.")


def _opened(mill: Mill, ear: Ear, release: Release, backend: Backend) -> Tuning:
    settings, lock = mill.settings, toolchain.lock_digest(backend.id)
    request = BuildRequest(
        repo=release.repo,
        sha=release.sha,
        backend=backend.id,
        namespace=settings.namespace or NAMESPACE,
        toolchain=lock,
        targets=(),
    )
    steps = Steps.in_foreground(BUILD, mill.journal)
    stages = Stages(settings, mill.hub, request, release, backend, steps, Admission(settings))
    return Tuning(settings, release, backend, stages, lock, toolchain.code_path(settings=settings).name, ear)


def folder(settings: Settings, repo: str, sha: str) -> Path:
    """Where everything about tuning for one release lies."""
    return settings.home / "tuning" / repo.replace("/", "--") / sha


def save(evidence: Evidence, settings: Settings, out: Path | None = None) -> dict[str, Path]:
    """Write the evidence, the picture and the chosen recipe side by side; returns where each is.

    Without `out`, which names the evidence, they lie in the home, named after the backend and the precision.
    """
    kept = folder(settings, evidence.source, evidence.source_sha)
    path = out or kept / f"{evidence.backend}-{evidence.precision}.json"
    texts = {"evidence": (path, evidence.model_dump_json(indent=2).encode() + b"\n")}
    texts["picture"] = (path.with_suffix(".png"), choice.picture(evidence))
    recipe = path.with_suffix(".toml")
    if evidence.chosen is None:
        recipe.unlink(missing_ok=True)  # an earlier choice, which this evidence is not for
    else:
        texts["recipe"] = (recipe, choice.table(evidence, path.name).encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in texts.values():
        write_whole(target, content)
    return {name: target for name, (target, _) in texts.items()}
