"""The whole matrix of one release, twice in the same run: by a plain loop over the upstream tools, and by the mill.

The loop only converts. The mill is therefore measured twice: converting alone (`milling.py`), which is what is
compared, and a whole round, in which every variant is proven against its source and published as well.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil

from benchmarks import meter, naive, synthetic
from benchmarks.figures import Arm, Matrix, Milling, Usage
from benchmarks.synthetic import Shape
from benchmarks.world import ORG, World
from bot import catalog, demo, preflight, recipes, toolchain
from bot.doctor import cores
from bot.models import Recipe, Release, RepoRef
from bot.settings import get_settings
from bot.stages import REFERENCE


@dataclass(frozen=True)
class Size:
    """A model to measure with; without a shape it is the trained one."""

    title: str
    repo: str
    shape: Shape | None = None


# half-b is half of Phi-3.5-mini in every direction. 60m is for trying the benchmark itself.
SIZES = {
    "tiny": Size("the trained tiny Phi", demo.SOURCE),
    "60m": Size("a small synthetic Phi-3.5", f"{ORG}/Phi-3.5-60m", Shape(7, 768, 2048, 8192)),
    "half-b": Size("a synthetic Phi-3.5 of half a billion", f"{ORG}/Phi-3.5-half-b", Shape(16, 1536, 4096, 32064)),
}


class Run:
    """One measurement, which can be stopped and taken up again: what was measured lies in `work`."""

    def __init__(self, size: str, work: Path, say: Callable[[str], None]) -> None:
        self.size, self.work = SIZES[size], work / size
        self.work.mkdir(parents=True, exist_ok=True)
        self._name, self._say = size, say
        self._kept = self.work / "matrix.json"

    def forget(self) -> None:
        """Begin from nothing."""
        _empty(self.work)

    def measure(self, backends: Sequence[str], budget: int | None) -> Matrix:
        """Everything that was not measured yet."""
        for name in (REFERENCE, *backends):
            toolchain.ensure(name, on_progress=self._say)
        shape = self.size.shape
        model = demo.MODEL if shape is None else synthetic.make(shape, self.work / "model")
        with World(self.work / "hub", self.size.repo) as world:
            world.release(model)
            release = catalog.release(world.hub, RepoRef.parse(self.size.repo))
            chosen = _chosen(world, release, backends)
            found = self._begun(release, tuple(backends), chosen, budget)
            found = self._loop(world, release, found, chosen)
            found = self._convert(world, found)
            return self._round(world, found)

    def _begun(
        self, release: Release, backends: tuple[str, ...], chosen: Sequence[Recipe], budget: int | None
    ) -> Matrix:
        """What an earlier run left, if it measured the same."""
        memory = psutil.virtual_memory().total / 2**30
        fresh = Matrix(
            size=self._name,
            title=self.size.title,
            parameters=release.parameters,
            source_bytes=sum(file.size for file in release.files),
            machine=f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
            day=date.today().isoformat(),
            cores=cores(),
            backends=backends,
            recipes=tuple(recipe.id for recipe in chosen),
            budget=budget,
        )
        if not self._kept.exists():
            return self._keep(fresh)
        kept = Matrix.model_validate_json(self._kept.read_text())
        same = (kept.recipes, kept.budget, kept.source_bytes) == (fresh.recipes, budget, fresh.source_bytes)
        return kept if same else self._keep(fresh)

    def _keep(self, found: Matrix) -> Matrix:
        self._kept.write_text(found.model_dump_json(indent=1))
        return found

    def _loop(self, world: World, release: Release, found: Matrix, chosen: Sequence[Recipe]) -> Matrix:
        """The plain loop; each tool's figures are kept as soon as it ends."""
        work, source = self.work / "loop", self.work / "loop" / "source"
        work.mkdir(exist_ok=True)
        if found.download is None:
            shutil.rmtree(source, ignore_errors=True)
            command = [str(Path(sys.executable).with_name("hf")), "download", release.repo, "--local-dir", str(source)]
            arm = self._arm("plain loop: the source", world, command, world.environment(work), work)
            found = self._keep(found.model_copy(update={"download": arm}))
        done = {tool.recipe for tool in found.naive}
        for recipe in (r for r in chosen if r.id not in done):
            tool = naive.make(recipe, release, source, work)
            self._tell(f"plain loop: {recipe.id}", tool.usage)
            found = self._keep(found.model_copy(update={"naive": (*found.naive, tool)}))
        return found

    def _convert(self, world: World, found: Matrix) -> Matrix:
        """The mill converting alone."""
        if found.convert is not None:
            return found
        work = _empty(self.work / "convert")
        command = [sys.executable, "-m", "benchmarks.milling", self.size.repo, str(work / "answer.json")]
        arm = self._arm("the mill, converting", world, command, self._mill(world, found, work), work)
        milling = Milling.model_validate_json((work / "answer.json").read_text())
        made = {recipe for line in milling.lines for recipe in line.sizes}
        if made != set(found.recipes):
            raise RuntimeError(f"The mill and the loop did not make the same: {made ^ set(found.recipes)}.")
        _remove(work)
        return self._keep(found.model_copy(update={"convert": arm, "milling": milling}))

    def _round(self, world: World, found: Matrix) -> Matrix:
        """One whole round of the watcher."""
        if found.round is not None:
            return found
        work = _empty(self.work / "round")
        answer = work / "answer.json"
        script = f"exec {sys.executable} -m bot.cli watch --once --format json > {answer}"
        arm = self._arm("the mill, whole round", world, ["sh", "-c", script], self._mill(world, found, work), work)
        builds = json.loads(answer.read_text())["builds"]
        outcome = Counter(result["status"] for build in builds for result in build["results"])
        _remove(work)
        return self._keep(found.model_copy(update={"round": arm, "outcome": dict(outcome)}))

    def _mill(self, world: World, found: Matrix, work: Path) -> dict[str, str]:
        return world.mill(work, found.backends, found.budget, gated=self.size.shape is None)

    def _arm(self, what: str, world: World, command: Sequence[str], env: dict[str, str], work: Path) -> Arm:
        before, log = world.served, work / "log"
        usage = meter.measured(command, env, Path(__file__).parents[1], log)
        self._tell(what, usage)
        if usage.code and "round" not in what:  # a round tells by its exit code that a variant failed the gate
            raise RuntimeError(f"{what}: exit code {usage.code}; see {log}.")
        return Arm(usage=usage, served=world.served - before)

    def _tell(self, what: str, usage: Usage) -> None:
        self._say(f"{what}: {usage.wall:.1f} s, {usage.cpu:.1f} CPU s, {usage.peak / 2**30:.2f} GiB")


def _chosen(world: World, release: Release, backends: Sequence[str]) -> list[Recipe]:
    """The default recipes that suit the release and that its verdict allows."""
    asked = [recipe for backend in backends for recipe in recipes.select((), release, backend)]
    verdicts = preflight.verdicts(release, asked, world.hub, get_settings())
    return [recipe for recipe, verdict in zip(asked, verdicts, strict=True) if verdict.convertible]


def _empty(folder: Path) -> Path:
    """What a stopped run left there is of no use: the mill is measured from nothing."""
    if folder.exists():
        _remove(folder)
    folder.mkdir()
    return folder


def _remove(folder: Path) -> None:
    """What a mill has finished is read-only."""
    subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
    shutil.rmtree(folder)
