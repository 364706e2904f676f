"""What `make sbom` writes: for every lock one file, by CycloneDX's own schema, with every package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bot import toolchain

ROOT = Path(__file__).parents[2]
SUPPLY = ROOT / ".venv" / "supply" / "bin"
PACKAGE = re.compile(r"^([a-z0-9][\w.-]*)(?:\[.*?\])?==([^\s;]+)((?:.*\\\n)*.*\n)", re.MULTILINE)
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
for path in sys.argv[1:]:
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(path).read())
    assert wrong is None, (path, wrong)
"""


def write(folder: Path) -> dict[str, dict[str, Any]]:
    assert SUPPLY.exists(), "`make sbom` makes the environment of its tool"
    subprocess.run([sys.executable, ROOT / "scripts" / "sbom.py", folder], check=True, capture_output=True)
    return {path.name: json.loads(path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sbom")


@pytest.fixture(scope="module")
def sboms(folder: Path) -> dict[str, dict[str, Any]]:
    return write(folder)


def packages(lock: str) -> dict[str, tuple[str, set[str]]]:
    """The version and the hashes of every package of a lock."""
    found = PACKAGE.findall(lock)
    return {name: (version, set(re.findall(r"sha256:([0-9a-f]{64})", rest))) for name, version, rest in found}


def named(sbom: dict[str, Any]) -> dict[str, tuple[str, set[str]]]:
    return {
        one["name"]: (
            one["version"],
            {h["content"] for reference in one.get("externalReferences", []) for h in reference.get("hashes", [])},
        )
        for one in sbom["components"]
    }


@pytest.mark.parametrize("backend", toolchain.backends())
def test_every_package_of_a_lock_is_in_its_sbom_with_version_and_hashes(
    sboms: dict[str, dict[str, Any]], backend: str
) -> None:
    lock = packages((ROOT / "converters" / backend / "requirements.txt").read_text())
    # Named as the folder of the toolchain is, so that a receipt's digest leads to it.
    found = named(sboms[f"{backend}-{toolchain.lock_digest(backend)[:12]}.cdx.json"])
    assert found == lock
    assert {name for name, (_, hashes) in found.items() if not hashes} <= {"torch"}


def test_what_an_installation_brings_is_what_a_space_installs(sboms: dict[str, dict[str, Any]]) -> None:
    sbom = sboms["phimill.cdx.json"]
    dev = packages((ROOT / "requirements" / "dev.txt").read_text())
    pins = re.findall(r"^(\S+)==(\S+)$", (ROOT / "space" / "requirements.txt").read_text(), re.MULTILINE)
    assert {name: version for name, (version, _) in named(sbom).items()} == dict(pins)
    assert all(found == dev[name] and found[1] for name, found in named(sbom).items())
    assert sbom["metadata"]["component"]["name"] == "phimill"


def test_each_is_valid_by_the_schema(sboms: dict[str, dict[str, Any]], folder: Path) -> None:
    assert len(sboms) == 1 + len(toolchain.backends())
    subprocess.run([SUPPLY / "python", "-c", VALIDATE, *folder.iterdir()], check=True)


def test_the_same_locks_make_the_same_bytes(sboms: dict[str, dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "again")
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }
