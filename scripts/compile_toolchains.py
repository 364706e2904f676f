"""Compile each backend's `requirements.in` to a locked `requirements.txt`, and `build.in`, where there is one, alike.

    python scripts/compile_toolchains.py [backend...]

Every package is pinned with its hashes, but torch: its CPU wheel is another file on every platform, and
comes from uv's `--torch-backend cpu` or from a folder given as UV_FIND_LINKS. A lock with CUDA packages in
it is refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import uv

CONVERTERS = Path(__file__).resolve().parent.parent / "converters"
GPU = ("nvidia", "cuda", "triton")
TORCH = re.compile(r"^torch==([0-9.]+)(?:\+\w+)?(?: \\\n(?:    --hash=\S+(?: \\)?\n?)+)?", re.MULTILINE)


def compile_lock(source: Path) -> None:
    """Write the `.txt` beside the `.in`."""
    command = [uv.find_uv_bin(), "pip", "compile", source.name, "--generate-hashes", "--upgrade"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--python-version", "3.11"]
    if not os.environ.get("UV_FIND_LINKS"):
        command += ["--torch-backend", "cpu"]
    made = subprocess.run(command, cwd=source.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    lock = clean(made)
    source.with_suffix(".txt").write_text(lock, encoding="utf-8")
    print(f"{source.parent.name}/{source.stem}: {len(re.findall('^[a-z]', lock, re.MULTILINE))} packages")


def clean(lock: str) -> str:
    """Take the local version and the hashes off torch.

    Raises:
        SystemExit: the lock holds packages for GPUs.
    """
    if found := re.findall(rf"^(?:{'|'.join(GPU)})\S*", lock, re.MULTILINE):
        raise SystemExit(f"The lock holds GPU packages: {', '.join(found)}. Set UV_FIND_LINKS or use the CPU backend.")
    return TORCH.sub(r"torch==\1\n", lock)


def main(names: list[str]) -> None:
    for source in sorted([*CONVERTERS.glob("*/requirements.in"), *CONVERTERS.glob("*/build.in")]):
        if not names or source.parent.name in names:
            compile_lock(source)


if __name__ == "__main__":
    main(sys.argv[1:])
