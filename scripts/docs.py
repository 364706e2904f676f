"""Writes docs/cli.md and docs/recipes.md from the code and the data. `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from bot import recipes
from bot.cli.app import app
from bot.cli.entry import CODES
from bot.models import Recipe

DOCS = Path(__file__).parents[1] / "docs"
GENERATED = "<!-- Made by scripts/docs.py. Change the code or the data, then run `make docs`. -->"


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    check = parser.parse_args().check
    stale = []
    for name, text in (("cli.md", cli_page()), ("recipes.md", recipes_page())):
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"Out of date: {', '.join(stale)}. Run `make docs`.")


def cli_page() -> str:
    """The command line: every command, argument and option."""
    blocks = [GENERATED, "# Command line", get_command(app).help or ""]
    blocks += [
        "The answer goes to stdout, everything else to stderr. `--format json` before or after the command turns the "
        'answer into one JSON document, and an error on stderr into `{"error": {code, message, hint}}`.',
        "## Exit codes",
        table(("code", "meaning"), ((f"{code}", meaning) for code, meaning in CODES.items())),
    ]
    for words, command in commands(get_command(app), "phimill"):
        blocks += [f"## `{words}`", *described(words, command)]
    return "\n\n".join(blocks) + "\n"


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    for name, child in getattr(command, "commands", {}).items():
        if getattr(child, "commands", None):
            yield from commands(child, f"{words} {name}")
        else:
            yield f"{words} {name}", child


def described(words: str, command: Any) -> Iterator[str]:
    """What one command does, how it is called, and what it takes."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([words, "[OPTIONS]", *(spelled(a) for a in arguments)])
    yield "\n\n".join(paragraph.replace("\n", " ") for paragraph in (command.help or "").split("\n\n"))
    yield f"```\n{usage}\n```"
    rows = [(f"`{spelled(a)}`", a.help or "") for a in arguments]
    rows += [(f"`{', '.join(o.opts)}{f' {o.metavar}' if o.metavar else ''}`", option_help(o)) for o in options]
    yield table(("", ""), rows)


def spelled(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def option_help(option: Any) -> str:
    """An option's help, with its default where it has one worth telling."""
    required = " Required." if option.required else ""
    shown = option.default not in (None, False, (), [], "")
    return f"{option.help or ''}{required}" + (f" Default: `{option.default}`." if shown else "")


def recipes_page() -> str:
    """What can be made, per backend, and how to make the same by hand."""
    blocks = [
        GENERATED,
        "# Recipes",
        "What phimill can make of a release. **Default** recipes are made of every watched release; the others when "
        "somebody asks for them: `phimill convert REPO --recipe ID`. *recommended* is the best measured fidelity for "
        "its size, *cookbook* has exactly the options of the PhiCookBook's chapters, *ladder* is in between.",
    ]
    for backend in recipes.backends().values():
        target = f"`{backend.target('NAMESPACE', 'MODEL')}`"
        heads = ("recipe", "makes", "precision", "bits per weight", "preset", "for", "made from")
        blocks += [f"## {backend.title}", f"Published to {target}.", table(heads, map(recipe_row, backend.recipes))]
        blocks.append("### The same by hand")
        blocks.append("`{m}` is the model's name, `SOURCE` the folder it was downloaded to.")
        for recipe in backend.recipes:
            if recipe.by_hand:
                blocks.append(f"`{recipe.id}`\n\n```sh\n" + "\n".join(recipe.by_hand) + "\n```")
    return "\n\n".join(blocks) + "\n"


def recipe_row(recipe: Recipe) -> tuple[str, ...]:
    preset = f"{recipe.preset}, **default**" if recipe.default else recipe.preset
    only = f"{recipe.only_dtype} only" if recipe.only_dtype else "any"
    bits = f"{recipe.bits_per_weight:g}"
    return f"`{recipe.id}`", recipe.title, recipe.precision.value, bits, preset, recipe.suits, only


def table(heads: tuple[str, ...], rows: Any) -> str:
    """A Markdown table; a `|` in a cell stays a character."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
