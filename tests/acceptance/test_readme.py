"""The README's commands: those of the offline part are what CI runs, and the cheap ones are run here."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_world import BIN, SOURCE, Ran, World, run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMED = "microsoft/Phi-4-mini-instruct"


def section(heading: str) -> str:
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def commands(part: str) -> list[str]:
    """The lines of a part's shell blocks."""
    return [line for block in re.findall(r"^```sh\n(.*?)^```", part, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path) -> Iterator[World]:
    """A Hub with one release on it, and nothing converted."""
    with World(tmp_path_factory.mktemp("readme") / "world") as made:
        made.release(tiny_phi)
        yield made


def shell(world: World, line: str) -> Ran:
    """Run a README's line with the release that is there in place of the one it names."""
    words = shlex.split(line.replace(NAMED, SOURCE).replace("--to you", "--to phimill"))
    return run([BIN / words[0], *words[1:]], world.env())


def test_the_offline_part_is_two_commands() -> None:
    assert commands(section("Try it")) == ["make demo", "make test"]


def test_ci_runs_the_offline_part() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "`make demo ONCE=1`" in section("Try it")
    assert "make demo ONCE=1" in ci
    assert "make test" in ci


def test_make_has_the_targets_and_runs_what_is_described() -> None:
    plans = {}
    for command in ("make demo", "make demo ONCE=1", "make test"):
        # -n prints what would be run; -o takes the environment as made.
        dry = [*shlex.split(command), "-n", "-o", ".venv/.ready"]
        plans[command] = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "phimill demo" in plans["make demo"]
    assert "--once" not in plans["make demo"]
    assert "phimill demo --once" in plans["make demo ONCE=1"]
    assert "pytest" in plans["make test"]


@pytest.mark.parametrize("line", ["phimill --help", "phimill recipes", "phimill doctor"])
def test_commands_that_need_nothing_answer(world: World, line: str) -> None:
    ran = shell(world, line)
    # doctor ends with 1 when something stands in the way of a build, such as a missing compiler.
    assert ran.code in ((0, 1) if line == "phimill doctor" else (0,)), ran.err
    assert ran.out.strip()
    assert "Traceback" not in ran.out + ran.err


def test_check_answers_as_the_readme_says(world: World) -> None:
    (line,) = [line for line in commands(section("Use it")) if line.startswith("phimill check ")]
    ran = shell(world, line)
    assert ran.code == 0, ran.err
    assert "gguf/int4" in ran.out


def test_a_dry_run_builds_nothing(world: World) -> None:
    (line,) = [line for line in commands(section("Use it")) if line.endswith(" --dry-run")]
    ran = shell(world, line)
    assert ran.code == 0, ran.err
    assert "Would build" in ran.out
    assert world.published() == set()


def test_every_recipe_that_is_named_exists(world: World) -> None:
    known = shell(world, "phimill recipes").out
    for name in set(re.findall(r"\bgguf/[\w-]+", README)):
        assert re.search(rf"^{re.escape(name)}\s", known, re.M), name
