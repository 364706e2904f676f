"""Checks that nothing is installed here that is not pinned: the locks, and what the Makefile and .ci/run fetch."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ["requirements/*.txt", "converters/*/requirements.txt", "converters/*/build.txt"]
SCRIPTS = ["Makefile", ".ci/run"]
# Its builds for other machines are other files of the same version, from an index that `--torch-backend` names.
UNHASHED = {"torch"}
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==[^\s;@]+( ; [^\\]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
FETCHES = re.compile(r"\b(?:curl|wget|npx|npm|git clone|pipx|uvx|uv tool)\b")
PINNED = re.compile(r"--require-hashes|--no-deps --no-build-isolation -e \.")
# What comes from Debian is signed by Debian.
DEBIAN = re.compile(r"apt-get (?:update|install)(?: -\S+)*(?: chromium)?\s*(?=$|&&|;)")


def main() -> None:
    """Print what is wrong and fail, or say nothing."""
    found = list(problems(ROOT))
    if found:
        sys.exit("\n".join(found))


def problems(root: Path) -> Iterator[str]:
    """What is not pinned in a checkout, one sentence each."""
    for lock in sorted(lock for places in LOCKS for lock in root.glob(places)):
        for problem in of_lock(lock.read_text(encoding="utf-8")):
            yield f"{lock.relative_to(root)}: {problem}"
    for script in SCRIPTS:
        for problem in of_script((root / script).read_text(encoding="utf-8")):
            yield f"{script}: {problem}"
    dev = (root / "requirements" / "dev.txt").read_text(encoding="utf-8")
    for wanted in tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]:
        name = re.split(r"[^\w.-]", wanted)[0]
        if not re.search(rf"^{re.escape(name)}==", dev, re.MULTILINE):
            yield f"pyproject.toml: {name} builds phimill, and is not in requirements/dev.txt."


def of_lock(lock: str) -> Iterator[str]:
    """Lines of a lock that are no pin with a hash. Addresses, options and repositories are none."""
    for line in lock.replace("\\\n", "").splitlines():
        requirement, *hashes = [part.strip() for part in re.split(r"\s(?=--)", line)]
        pin = PIN.fullmatch(requirement)
        if not requirement or requirement.startswith("#"):
            continue
        if pin is None:
            yield f"{requirement!r} is not pinned to a version."
        elif not all(HASH.fullmatch(one) for one in hashes) or (not hashes and pin[1] not in UNHASHED):
            yield f"{pin[1]} has no hash."


def of_script(script: str) -> Iterator[str]:
    """Commands of a script that fetch what nothing pins."""
    for line in script.replace("\\\n", " ").splitlines():
        command = line.split("#")[0].strip()
        if FETCHES.search(command):
            yield f"{command!r} fetches something that is not pinned."
        if "apt-get" in DEBIAN.sub("", command):
            yield f"{command!r} installs more than Chromium."
        if "pip install" in command and not PINNED.search(command):
            yield f"{command!r} installs without hashes."


if __name__ == "__main__":
    main()
