"""Writes docs/cli.md, docs/recipes.md and space/requirements.txt from code and data. `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from space_requirements import space_requirements
from typer.main import get_command

from bot import candidates, recipes
from bot.cli.app import app
from bot.cli.entry import CODES
from bot.devices import devices
from bot.models import Recipe
from bot.problems import TRAITS
from bot.recipes import Backend

ROOT = Path(__file__).parents[1]
GENERATED = "<!-- Made by scripts/docs.py. Change the code or the data, then run `make docs`. -->"


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    check = parser.parse_args().check
    stale = []
    made = {
        "docs/cli.md": cli_page(),
        "docs/recipes.md": recipes_page(),
        "space/requirements.txt": space_requirements(),
    }
    for name, text in made.items():
        path = ROOT / name
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
    """What can be made, per backend, how to run it, and how to make the same by hand."""
    blocks = [
        GENERATED,
        "# Recipes",
        "What phimill can make of a release. **Default** recipes are made of every watched release that they suit, "
        "the others when somebody asks for them: `phimill convert REPO --recipe ID`. *recommended* is the best "
        "measured fidelity for its size, *cookbook* has exactly the options of the PhiCookBook's chapters, *ladder* "
        "is in between. `phimill check REPO` says which of them can be made of a release, and why the others cannot.",
        "`NAMESPACE` is where phimill publishes. In commands, `{m}` is the model's name, `SOURCE` the folder it was "
        "downloaded to, and `{base}` the type of its weights: bf16, f16 or f32.",
        table(("backend", "recipes", "published to"), map(backend_row, recipes.backends().values())),
    ]
    for backend in recipes.backends().values():
        blocks += [f"## {backend.title}", *backend_blocks(backend)]
    return "\n\n".join(blocks) + "\n"


def backend_row(backend: Backend) -> tuple[str, ...]:
    # As GitHub makes an anchor of a heading.
    anchor = "".join(c for c in backend.title.lower() if c.isalnum() or c in " -").replace(" ", "-")
    repos = dict.fromkeys(recipe.target("NAMESPACE", "{m}") for recipe in backend.recipes)
    return f"[{backend.title}](#{anchor})", str(len(backend.recipes)), ", ".join(f"`{repo}`" for repo in repos)


def backend_blocks(backend: Backend) -> Iterator[str]:
    """One backend: a table to choose from, how to run what was chosen, then every recipe with all there is to it."""
    heads = ("recipe", "makes", "precision", "bits per weight", "preset", "for")
    yield table(heads, map(recipe_row, backend.recipes))
    if backend.snippets:
        yield "### Running it"
        yield (
            "`{repo}` is the repo, `{tag}` its version, `{file}` the variant's first file, `{folder}` where that is, "
            "`{quant}` what it is called after the model's name, `{context}` a number of tokens."
        )
    for snippet in backend.snippets:
        install = f"\n\n```sh\n{snippet.install}\n```" if snippet.install else ""
        yield f"**{snippet.title}**{install}\n\n```{snippet.language}\n{snippet.code.strip()}\n```"
    for recipe in backend.recipes:
        yield f"### `{recipe.id}`"
        yield f"{recipe.title}. {recipe.suits}"
        yield "\n".join(f"- {fact}" for fact in recipe_facts(recipe))
        if recipe.by_hand:
            yield "```sh\n" + "\n".join(recipe.by_hand) + "\n```"
    if tried := candidates.extra(backend.id):
        yield f"### Candidates of {backend.title}"
        yield (
            f"What `phimill tune REPO --backend {backend.id}` tries beside the recipes above, to find the best for a "
            "model. Their commands are in the file that it writes."
        )
        yield table(("candidate", "makes", "precision", "bits per weight", "options"), map(candidate_row, tried))


def recipe_row(recipe: Recipe) -> tuple[str, ...]:
    preset = f"{recipe.preset}, **default**" if recipe.default else recipe.preset
    bits = f"{recipe.bits_per_weight:g}"
    return f"`{recipe.id}`", recipe.title, recipe.precision.value, bits, preset, recipe.suits


def candidate_row(recipe: Recipe) -> tuple[str, ...]:
    bits = f"{recipe.bits_per_weight:g}"
    return f"`{recipe.id}`", recipe.title, recipe.precision.value, bits, options_of(recipe)


def recipe_facts(recipe: Recipe) -> Iterator[str]:
    """All that the table does not say of a recipe."""
    yield f"Published as `{recipe.file}` in `{recipe.target('NAMESPACE', '{m}')}`."
    if recipe.id == recipe.baseline:
        yield "Measured against the source. It is the unquantized export that other recipes are measured against."
    else:
        yield f"Measured against the source and against `{recipe.baseline}`."
    if recipe.devices:
        yield f"Devices: {', '.join(devices()[name].title for name in recipe.devices)}."
    only = [f"{recipe.only_dtype} weights"] if recipe.only_dtype else []
    for trait, wanted in recipe.only_when.items():
        only.append(f"{'' if wanted else 'no '}{TRAITS.get(trait, trait)}")
    if only:
        yield f"Only for models with {', '.join(only)}."
    if recipe.within_original_context:
        yield "Only for contexts up to the original one of a LongRoPE model."
    for trait, why in recipe.runtime_error.items():
        yield f"**Known runtime error** with {TRAITS.get(trait, trait)}: {why}"
    yield f"Options: {options_of(recipe)}."


def options_of(recipe: Recipe) -> str:
    """The options as the data file has them."""
    return ", ".join(f"`{name} = {candidates.spelled(value)}`" for name, value in recipe.options.items()) or "none"


def table(heads: tuple[str, ...], rows: Any) -> str:
    """A Markdown table; a `|` in a cell stays a character."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
