"""The documents say what is: dependencies, links, names, commands and settings are compared with the code."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bot.cli.app import app
from bot.cli.entry import CODES
from bot.settings import GIB, Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
PYTHON = [*sorted((ROOT / "bot").rglob("*.py")), *sorted((ROOT / "converters").rglob("*.py"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page)


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def table(part: str) -> list[list[str]]:
    """The rows of a section's tables, without their heads."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    rules = {number for number, row in enumerate(rows) if all(set(cell) <= {"-"} and cell for cell in row)}
    return [row for number, row in enumerate(rows) if number not in rules and number + 1 not in rules]


def listed(heading: str) -> list[str]:
    rows = table(section(text("docs/dependencies.md"), heading))
    assert all(len(row) == 2 and len(row[1]) > 10 for row in rows), "each has a reason"
    return [row[0].strip("`") for row in rows]


def named(requirements: list[str]) -> list[str]:
    """Package names of requirement lines, as the registry spells them."""
    lines = [line.strip() for line in requirements if line.strip() and not line.strip().startswith(("#", "-"))]
    return sorted(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in lines)


def test_every_dependency_is_listed_with_a_reason() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert listed("Main") == named(project["dependencies"])
    assert listed("Development") == named(project["optional-dependencies"]["dev"])


def test_every_tool_of_the_supply_chain_is_listed_with_a_reason() -> None:
    assert listed("Supply chain") == named(text("requirements/supply.in").splitlines())


def test_every_pinned_package_of_a_toolchain_is_listed_with_a_reason() -> None:
    pinned = sorted((ROOT / "converters").glob("*/requirements.in"))
    assert pinned
    for file in pinned:
        assert listed(f"Toolchain `{file.parent.name}`") == named(file.read_text().splitlines()), file.parent.name


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


def defined() -> set[str]:
    """Every function, class and method of the code, methods also as `Class.method`."""
    names: set[str] = set()
    for file in PYTHON:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names.add(node.name)
                methods = (n.name for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
                names |= {f"{node.name}.{method}" for method in methods}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names |= {node.name, f"{file.stem}.{node.name}"}
    return names


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/security.md", "docs/operations.md", "CONTRIBUTING.md"])
def test_files_and_functions_that_are_named_exist(name: str) -> None:
    page, known = text(name), defined()
    for path in re.findall(r"`([\w./-]+\.(?:py|toml))`", page):
        places = [ROOT / path, ROOT / "bot" / path, ROOT / "converters" / path]
        beside = [found for root in ("bot", "converters") for found in (ROOT / root).rglob(path) if "/" not in path]
        assert beside or any(place.exists() for place in places), path
    for function in re.findall(r"\b([A-Za-z_][\w.]*)\(\)", page):
        assert function in known, function


def test_folders_of_the_house_exist() -> None:
    for folder in re.findall(r"`((?:bot|converters|tests|docs)/[\w./-]*)`", text("docs/architecture.md")):
        assert (ROOT / folder).exists(), folder


def test_every_module_of_the_mill_is_in_the_architecture() -> None:
    page = text("docs/architecture.md")
    for file in (ROOT / "bot").glob("*.py"):
        assert file.name == "__init__.py" or f"`{file.name}`" in page, file.name


def setting_rows() -> Iterator[list[str]]:
    """The settings as the table of docs/operations.md has them."""
    for name, field in Settings.model_fields.items():
        yield [f"`PHIMILL_{name.upper()}`", shown(field.default, field.is_required()), field.description or ""]


def shown(default: Any, computed: bool) -> str:
    if computed or "Undefined" in type(default).__name__:
        return "by platform"
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in default) + "]`"
    if isinstance(default, int) and default >= GIB:
        return f"{default / GIB:g} GiB"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_setting_is_documented_as_it_is() -> None:
    rows = [row for row in table(section(text("docs/operations.md"), "Settings")) if "PHIMILL_" in row[0]]
    assert rows == list(setting_rows())


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_settings_that_are_named_exist(page: Path) -> None:
    tests = {f"PHIMILL_TEST_{name}" for name in ("DATABASE_URL", "EXAMPLES", "REQUESTS")}
    known = {f"PHIMILL_{name.upper()}" for name in Settings.model_fields} | tests
    assert set(re.findall(r"PHIMILL_[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8"))) <= known


def command_lines(page: str) -> Iterator[list[str]]:
    """Every phimill command of a page, in blocks and between backticks."""
    blocks = "\n".join(code for language, code in FENCE.findall(page) if language == "sh")
    inline = re.findall(r"`(phimill [^`]+)`", prose(page))
    for line in [*blocks.replace("\\\n", " ").splitlines(), *inline]:
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words and words[0] == "phimill":
            yield words[1:]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_that_are_named_exist_with_their_options(page: Path) -> None:
    for words in command_lines(page.read_text(encoding="utf-8")):
        command: Any = get_command(app)
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
                options |= {option for parameter in command.params for option in parameter.opts}
            elif word.startswith("-"):
                assert word.split("=")[0] in options | {"--help", "-h"}, f"{words}: {word}"
        assert not getattr(command, "commands", {}) or not [w for w in words if not w.startswith("-")], words


def test_the_readme_s_exit_codes_are_the_command_line_s() -> None:
    rows = {
        code.strip(): row[1] for row in table(section(text("README.md"), "Exit codes")) for code in row[0].split(",")
    }
    assert set(rows) == {str(code) for code in CODES}
    assert all(rows[str(code)] == CODES[code] for code in CODES if code < 100)


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert tomllib.loads(text("pyproject.toml"))["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text("LICENSE")
    assert "END OF TERMS AND CONDITIONS" in text("LICENSE")


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## \[([^\]]+)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version in headings
