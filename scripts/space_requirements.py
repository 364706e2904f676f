"""What a Space has to install: of the locked environment, only what the mill itself needs.

Versions without hashes: whoever builds a Gradio Space installs packages of its own in the same breath, without
hashes, and pip takes hashes for all packages or for none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HEAD = "# Made by scripts/docs.py from pyproject.toml and requirements/dev.txt. Change those, then run `make docs`.\n"
# Of the machine that a Space is, whatever this one is.
SPACE = {"python_version": "3.11", "python_full_version": "3.11.13", "sys_platform": "linux",
         "platform_system": "Linux", "platform_machine": "x86_64"}  # fmt: skip


def space_requirements() -> str:
    """The text of space/requirements.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = closure(map(Requirement, project["dependencies"]))
    pins = locked((ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8"))
    return HEAD + "".join(f"{name}=={pins[name]}\n" for name in sorted(needed))


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """The names of all packages that these need, as far as a Space is concerned. All of them must be installed."""
    found: dict[str, set[str]] = {}
    pending = list(wanted)
    while pending:
        one = pending.pop()
        name, extras = canonicalize_name(one.name), {"", *one.extras}
        if new := extras - found.get(name, set()):
            found.setdefault(name, set()).update(new)
            pending += [r for r in map(Requirement, requires(one.name) or ()) if _applies(r, new)]
    return set(found)


def locked(lock: str) -> dict[str, str]:
    """Every package of a lock, and its version."""
    lines = [line.rstrip(" \\").split("==") for line in lock.splitlines() if "==" in line and line[0] != " "]
    return {canonicalize_name(name): version for name, version in lines}


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    if requirement.marker is None:
        return "" in extras
    here = default_environment() | SPACE
    return any(requirement.marker.evaluate({**here, "extra": extra}) for extra in extras)
