"""Checks docs/security.md: every threat names what guards against it and the tests of that, and all of them exist."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = "docs/security.md"
HEADS = ["threat", "what is done", "check", "tests"]
NAMED = re.compile(r"`([\w./-]+\.(?:py|toml))(?:::([\w.]+))?`")


def main() -> None:
    """Print what is wrong and fail, or say nothing."""
    wrong = list(problems((ROOT / PAGE).read_text(encoding="utf-8"), ROOT))
    if wrong:
        sys.exit("\n".join([f"{PAGE} does not hold:", *wrong]))


def problems(page: str, root: Path) -> Iterator[str]:
    """What is missing on the page or named by it and not there, one sentence each."""
    found = list(threats(page))
    if not found:
        yield f"There is no table with the heads {', '.join(HEADS)}."
    for cells in found:
        if len(cells) != len(HEADS):
            yield f"{cells[0]!r} has {len(cells)} cells of {len(HEADS)}."
            continue
        threat, _, check, tests = cells
        yield from (f"{threat!r}: {problem}" for problem in unnamed(check, tests))
        for path, name in NAMED.findall(check + tests):
            if not (root / path).is_file():
                yield f"{threat!r}: {path} does not exist."
            elif name and name not in names(root / path):
                yield f"{threat!r}: {path} has no {name}."


def unnamed(check: str, tests: str) -> Iterator[str]:
    """What a threat has to name and does not."""
    if not any(path.startswith(("bot/", "converters/")) for path, _ in NAMED.findall(check)):
        yield "it names no module that guards against it."
    named = NAMED.findall(tests)
    if not named:
        yield "it names no test."
    for path, name in named:
        if not path.startswith("tests/") or not name.startswith("test_"):
            yield f"{path} is named without a test in it."


def threats(page: str) -> Iterator[list[str]]:
    """The rows of the table of threats."""
    inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == HEADS:
            inside = True
        elif inside and set("".join(cells)) != {"-"}:
            yield cells


def names(path: Path) -> set[str]:
    """Every function, class and method of a Python file, and the constants at its top; of other files nothing."""
    if path.suffix != ".py":
        return set()
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {node.name, *(f"{node.name}.{method}" for method in methods)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


if __name__ == "__main__":
    main()
