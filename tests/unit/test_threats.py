"""The checker of the table of threats: what it finds, and that it has nothing to find on the real page."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "threats.py"))
HEAD = "| threat | what is done | check | tests |\n|---|---|---|---|\n"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A repo with one module, `Door.lock` in it, and one test."""
    for path, code in {
        "bot/door.py": "KEY: int = 1\nclass Door:\n    def lock(self): ...\n",
        "tests/test_door.py": "def test_it_is_locked(): ...\ndef helper(): ...\n",
    }.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(code)
    return tmp_path


def problems(house: Path, check: str, tests: str) -> list[str]:
    return list(SCRIPT["problems"](f"{HEAD}| A thief | a lock | {check} | {tests} |\n", house))


@pytest.mark.parametrize("check", ["`bot/door.py`", "`bot/door.py::Door.lock`", "`bot/door.py::KEY`"])
def test_what_exists_is_no_problem(house: Path, check: str) -> None:
    assert problems(house, check, "`tests/test_door.py::test_it_is_locked`") == []


@pytest.mark.parametrize(
    ("check", "tests", "says"),
    [
        ("", "`tests/test_door.py::test_it_is_locked`", "it names no module"),
        ("`bot/door.py`", "", "it names no test"),
        ("`bot/window.py`", "`tests/test_door.py::test_it_is_locked`", "bot/window.py does not exist"),
        ("`bot/door.py::Door.open`", "`tests/test_door.py::test_it_is_locked`", "bot/door.py has no Door.open"),
        ("`bot/door.py`", "`tests/test_door.py::test_it_is_shut`", "tests/test_door.py has no test_it_is_shut"),
        ("`bot/door.py`", "`tests/test_gate.py::test_it_is_locked`", "tests/test_gate.py does not exist"),
        ("`bot/door.py`", "`tests/test_door.py`", "named without a test in it"),
        ("`bot/door.py`", "`tests/test_door.py::helper`", "named without a test in it"),
        ("`bot/door.py`", "`bot/door.py::Door`", "named without a test in it"),
        ("`bot/door.py` | more", "`tests/test_door.py::test_it_is_locked`", "has 5 cells of 4"),
    ],
)
def test_what_is_missing_is_named_with_its_threat(house: Path, check: str, tests: str, says: str) -> None:
    [problem] = problems(house, check, tests)
    assert "A thief" in problem
    assert says in problem


def test_a_page_without_the_table_is_a_problem(house: Path) -> None:
    [problem] = SCRIPT["problems"]("# Security\n\n| threat | what is done |\n|---|---|\n| A | b |\n", house)
    assert "no table" in problem


def test_the_page_holds_and_has_every_threat_once() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert list(SCRIPT["problems"](page, ROOT)) == []
    threats = [row[0] for row in SCRIPT["threats"](page)]
    assert len(threats) == len(set(threats)) > 30
