"""The mill's conversions alone: every default recipe of a release, through its own stages, side by side, unproven.

Runs as a process of its own, `python -m benchmarks.milling SOURCE ANSWER`, in a mill's environment. Plans as the mill
plans, and converts as a build does: each backend's variants in turn, the backends beside each other as far as the
machine has room (`bot.admission`), what variants share made once, a variant's files dropped once they are counted.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import meter
from benchmarks.figures import Child, Line, Milling
from bot import recipes, sandbox, toolchain
from bot.admission import Admission
from bot.builds import BuildRequest
from bot.mill import Mill
from bot.models import Release
from bot.sandbox_watch import Child as SandboxChild
from bot.stages import Stages
from bot.steps import Steps
from bot.telling import Telling
from bot.workspace import Workspace

BEGAN = time.monotonic()
LARGE = 0.01  # of the source; what is smaller is no intermediate worth the name


def main(source: str, answer: Path) -> None:
    children: list[Child] = []
    _count(children)
    mill = Mill()
    plan = mill.reader().plan(source)
    admission = Admission(mill.settings)
    with ThreadPoolExecutor(len(plan.builds)) as pool:
        lines = list(pool.map(lambda request: _convert(mill, plan.release, request, admission), plan.builds))
    answer.write_text(Milling(lines=tuple(lines), children=tuple(children)).model_dump_json())
    mill.close()


def _convert(mill: Mill, release: Release, request: BuildRequest, admission: Admission) -> Line:
    backend = recipes.backends()[request.backend]
    steps = Steps(request.backend, mill.journal, lambda _, action: action(), lambda: False, lambda: False)
    sizes: dict[str, int] = {}
    with admission.building():
        began = time.monotonic() - BEGAN
        shared = _shared(mill, release, request)
        stages = Stages(mill.settings, mill.hub, request, release, backend, steps, admission)
        for recipe in _in_order(request):
            threading.current_thread().name = recipe.id
            artifact = stages.convert(recipe, Telling(mill.journal, request.backend, "convert", recipe.id))
            sizes[recipe.id] = sum(file.size for file in (*artifact.files, *artifact.extras))
            stages.drop(recipe)
        ended = time.monotonic() - BEGAN
    kept = _intermediates(shared, release)
    stages.clear()
    return Line(backend=backend.id, began=began, ended=ended, sizes=sizes, kept=kept)


def _in_order(request: BuildRequest) -> list[Any]:
    """As a build goes through them."""
    asked = recipes.by_id(request.recipes)
    return sorted(asked, key=lambda r: (r.baseline, r.id != r.baseline, -r.bits_per_weight, r.id))


def _shared(mill: Mill, release: Release, request: BuildRequest) -> Path:
    """Where a backend keeps what its variants share."""
    made_with = f"{request.toolchain} {toolchain.code_path(settings=mill.settings).name}"
    return Workspace(mill.settings).shared_dir(release, request.backend, made_with)


def _intermediates(shared: Path, release: Release) -> dict[str, int]:
    """The large things that the variants of a backend share, files or folders, with their sizes."""
    if not shared.is_dir():
        raise RuntimeError(f"{shared} is not where the variants keep what they share.")
    sizes = {entry.name: meter.size_of(entry) for entry in shared.iterdir()}
    return {name: size for name, size in sizes.items() if size > LARGE * release.weight_bytes}


def _count(children: list[Child]) -> None:
    """Have every converter that is run from now on leave its figures here."""

    class Counted(SandboxChild):
        def __init__(self, spec: dict[str, Any], *rest: Any) -> None:
            self._command = spec["command"]
            super().__init__(spec, *rest)

        def __exit__(self, *error: object) -> None:
            self.control.close()  # the launcher ends, if it has not yet, and is ours to look at until it is collected
            meter.await_end(self.process.pid)
            if self._command:
                children.append(self._figures())
            super().__exit__(*error)

        def _figures(self) -> Child:
            return Child(
                backend=str(self._command[-1]).removeprefix("converters."),
                recipe=threading.current_thread().name,
                wall=time.monotonic() - self.started,
                cpu=float((self._exit or {}).get("cpu", 0)),
                peak=self.peak,
                read=meter.bytes_read(self.process.pid),
                written=meter.bytes_written(self.process.pid),
            )

    vars(sandbox)["Child"] = Counted


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
