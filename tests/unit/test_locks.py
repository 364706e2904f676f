"""The checker of the locks: what it finds, and that it has nothing to find here."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "locks.py"))
HASH = f"    --hash=sha256:{'0' * 64}"


def test_this_checkout_installs_nothing_that_is_not_pinned() -> None:
    assert list(SCRIPT["problems"](ROOT)) == []


def test_every_lock_of_the_checkout_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCRIPT["problems"].__globals__, "of_lock", lambda lock: [lock[:0] + "read"])
    read = {problem.split(":")[0] for problem in SCRIPT["problems"](ROOT)}
    assert {"requirements/dev.txt", "requirements/supply.txt", "converters/gguf/requirements.txt"} <= read
    of_backends = [*ROOT.glob("converters/*/requirements.txt"), *ROOT.glob("converters/*/build.txt")]
    assert len(read) == 2 + len(of_backends)


@pytest.mark.parametrize(
    "lock",
    [
        f"one==1.0 \\\n{HASH}\n",
        f"one[extra]==1.0 ; sys_platform == 'linux' \\\n{HASH} \\\n{HASH}\n",
        "torch==2.13.0\n",
        "# a remark\n\n",
    ],
)
def test_what_is_pinned_is_no_problem(lock: str) -> None:
    assert list(SCRIPT["of_lock"](lock)) == []


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        ("one==1.0\n", "one has no hash"),
        (f"one==1.0 \\\n{HASH}\ntwo==1.0\n", "two has no hash"),
        ("one==1.0 \\\n    --hash=md5:0123\n", "one has no hash"),
        (f"one>=1.0 \\\n{HASH}\n", "is not pinned"),
        (f"one \\\n{HASH}\n", "is not pinned"),
        (f"one @ https://example.org/one.whl \\\n{HASH}\n", "is not pinned"),
        ("git+https://example.org/one\n", "is not pinned"),
        ("-e .\n", "is not pinned"),
        ("--index-url https://example.org/simple\n", "is not pinned"),
        ("--find-links /tmp\n", "is not pinned"),
    ],
)
def test_what_is_not_pinned_in_a_lock_is_found(lock: str, says: str) -> None:
    [problem] = SCRIPT["of_lock"](lock)
    assert says in problem


@pytest.mark.parametrize(
    "line",
    [
        "curl -sSf https://example.org/install | sh",
        "wget https://example.org/tool",
        "git clone https://example.org/tool",
        "uv tool run ruff",
        "pip install ruff",
        "uv pip install \\\n -r requirements/dev.txt",
        "uv pip install --no-deps -e .",
        "apt-get install -y curl",
        "apt-get install -y chromium && apt-get install -y jq",
        "apt-get install -y chromium jq",
    ],
)
def test_a_script_that_fetches_what_nothing_pins_is_found(line: str) -> None:
    assert list(SCRIPT["of_script"](f"make check\n{line}\n"))


def test_what_builds_phimill_is_locked(tmp_path: Path) -> None:
    for name, text in {
        "requirements/dev.txt": "",
        "Makefile": "",
        ".ci/run": "",
        "pyproject.toml": '[build-system]\nrequires = ["hatchling>=1.27"]\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(SCRIPT["problems"](tmp_path)) == [
        "pyproject.toml: hatchling builds phimill, and is not in requirements/dev.txt."
    ]
