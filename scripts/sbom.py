"""Writes what is in each locked environment as CycloneDX, into dist/sbom: `make sbom`.

    python scripts/sbom.py [FOLDER]

`phimill.cdx.json` is what an installation of phimill brings. Each toolchain has a file named after its backend and the
beginning of its digest, which is how its folder is called, and what a published receipt names under `toolchain`.
The same locks make the same bytes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from space_requirements import locked, space_requirements

from bot import toolchain

ROOT = Path(__file__).parents[1]
TOOL = ROOT / ".venv" / "supply" / "bin" / "cyclonedx-py"
BLOCK = re.compile(r"^\S+==(?:.*\\\n)*.*\n", re.MULTILINE)


def main(folder: Path) -> None:
    """Write every SBOM, and name it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lock, about in locks():
        path = folder / f"{name}.cdx.json"
        command = [TOOL, "requirements", "--output-reproducible", "--of", "JSON", "-o", path, *about, "-"]
        subprocess.run(command, input=lock, text=True, check=True)
        print(path)


def locks() -> Iterator[tuple[str, str, list[str]]]:
    """The name of each environment, its lock, and what the tool is told of it besides."""
    yield "phimill", main_lock(), ["--pyproject", str(ROOT / "pyproject.toml")]
    for backend in toolchain.backends():
        lock = ROOT / "converters" / backend / "requirements.txt"
        yield f"{backend}-{toolchain.lock_digest(backend)[:12]}", lock.read_text(encoding="utf-8"), []


def main_lock() -> str:
    """Of the development lock, hashes and all, what phimill itself needs."""
    needed = locked(space_requirements())
    blocks = BLOCK.findall((ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8"))
    return "".join(block for block in blocks if locked(block).keys() <= needed.keys())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "dist" / "sbom")
