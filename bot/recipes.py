"""The backends and their recipes, read as data from `converters/<backend>/`.

Nothing is imported from there: a backend's code runs in an environment of its own and never in the mill.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from pydantic import Field, ValidationError

from bot.devices import devices
from bot.errors import PhimillError, UsageError
from bot.models import Frozen, Recipe, Release, Status, Traits
from bot.settings import Settings


class Snippet(Frozen):
    """One way to run a model. What `code` may hold in braces is filled in by the card (`bot.card`).

    `install` is the shell command after which `code` runs in an empty environment, where there is one.
    """

    title: str
    language: str
    code: str
    install: str = ""


class Support(Frozen):
    """What a backend can do with an architecture, or with one trait of it."""

    status: Status
    reason: str
    links: tuple[str, ...] = ()


class Architecture(Support):
    """The same for a class; `when` holds what is added when a trait of that name is true of the model."""

    when: dict[str, Support] = Field(default_factory=dict)


class Costs(Frozen):
    """What the work that a backend's recipes share costs: CPU-seconds per GB (1e9 bytes) of 16-bit weights; memory.

    `check` and `export` use one core, the rest all. `memory_bytes` is what any step holds; the other memory figures
    are bytes per byte of the weights that the step loads. `intermediate` is what lies on the disk beside source and
    variant, in bytes per byte of 16-bit weights. A recipe adds its own costs (`Recipe.cpu_seconds`).
    """

    check: float = 0
    export: float = 0
    imatrix: float = 0
    evaluate: float = 0
    memory_bytes: int = 0
    imatrix_memory_per_byte: float = 0
    evaluate_memory_per_byte: float = 0
    intermediate: float = 0


class ReferenceCosts(Frozen):
    """What the PyTorch reference takes, per GB or byte of 16-bit weights: at its ease, and at the least."""

    check: float
    evaluate: float
    memory_bytes: int
    evaluate_memory_per_byte: float
    evaluate_memory_per_byte_least: float


class PreTokenizers(Frozen):
    """How llama.cpp tells BPE pre-tokenizers apart: names by the sha256 of what a probe text becomes."""

    probe_text: str
    hashes: dict[str, str]


class Backend(Frozen):
    """One backend: what it can make, of what, and at which cost."""

    id: str
    title: str
    library_name: str
    tags: tuple[str, ...] = ()
    snippets: tuple[Snippet, ...] = Field(default=(), alias="pull")
    recipes: tuple[Recipe, ...]
    architectures: dict[str, Architecture]
    costs: Costs
    pretokenizers: PreTokenizers | None = None


@lru_cache(maxsize=1)
def backends() -> dict[str, Backend]:
    """Every backend by its id: each folder of `converters` that holds a `recipes.toml`.

    Raises:
        PhimillError: a data file is wrong; says which one and where.
    """
    folders = sorted(files("converters").iterdir(), key=lambda folder: folder.name)
    found = [load(folder) for folder in folders if folder.is_dir() and (folder / "recipes.toml").is_file()]
    return {backend.id: backend for backend in found}


@lru_cache(maxsize=1)
def reference_costs() -> ReferenceCosts:
    """What measuring a release takes, whatever the backend."""
    return ReferenceCosts.model_validate(_toml(files("converters") / "reference" / "costs.toml")["costs"])


def enabled(settings: Settings) -> tuple[Backend, ...]:
    """The backends that are built for unless somebody asks for others by name.

    Raises:
        UsageError: the settings name a backend that does not exist.
    """
    known = backends()
    for name in settings.backends or ():
        if name not in known:
            raise UsageError(
                f"PHIMILL_BACKENDS names {name!r}, which is no backend.", f"There are {', '.join(known)}."
            )
    return tuple(b for b in known.values() if settings.backends is None or b.id in settings.backends)


def by_target(recipes: Iterable[Recipe], namespace: str, model: str) -> dict[str, tuple[Recipe, ...]]:
    """The recipes by the repo that they are published to."""
    found: dict[str, tuple[Recipe, ...]] = {}
    for recipe in recipes:
        repo = recipe.target(namespace, model)
        found[repo] = (*found.get(repo, ()), recipe)
    return found


def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe of every backend, in the order of the files."""
    return tuple(recipe for backend in backends().values() for recipe in backend.recipes)


def by_id(ids: Iterable[str]) -> tuple[Recipe, ...]:
    """The recipes of these ids, in this order.

    Raises:
        UsageError: there is no such recipe.
    """
    known = {recipe.id: recipe for recipe in all_recipes()}
    asked = list(ids)
    for name in asked:
        if name not in known:
            raise UsageError(f"There is no recipe {name!r}.", f"There are {', '.join(known)}.")
    return tuple(known[name] for name in asked)


def defaults(backend: str) -> tuple[Recipe, ...]:
    """What is made of every release that it suits."""
    return tuple(recipe for recipe in backends()[backend].recipes if recipe.default)


def select(asked: Sequence[str], release: Release, backend: str) -> tuple[Recipe, ...]:
    """The recipes of one backend that were asked for: by id (`gguf/int4`), by backend (`gguf`), or `all`.

    Nothing asked means the defaults. A broad word leaves out what is made for releases of another kind; an id is taken
    at its word, and the verdict then says why not.

    Raises:
        UsageError: no backend has such a recipe.
    """
    if not asked:
        return tuple(recipe for recipe in defaults(backend) if recipe.suits_release(release))
    broad = {"all", *backends()}
    by_id(name for name in asked if name not in broad)
    wide = not {"all", backend}.isdisjoint(asked)
    return tuple(
        recipe
        for recipe in backends()[backend].recipes
        if recipe.id in asked or (wide and recipe.suits_release(release))
    )


def load(folder: Traversable) -> Backend:
    """Read one backend's data files. Raises as `backends`."""
    table = _toml(folder / "recipes.toml")
    backend = dict(table.get("backend", {}))
    common = {
        "backend": backend.get("id"),
        "repo": backend.pop("repo", None),
        "baseline": backend.pop("baseline", None),
    }
    runtime = table.get("runtime", {})
    listed = [
        {**common, **recipe, "runtime": {**runtime, **recipe.get("runtime", {})}} for recipe in table.get("recipe", [])
    ]
    spelled = {**backend, "recipes": listed, "costs": table.get("costs", {})}
    spelled["architectures"] = {k: _architecture(v) for k, v in _toml(folder / "architectures.toml").items()}
    hashes = folder / "pretokenizers.json"
    if hashes.is_file():
        spelled["pretokenizers"] = json.loads(hashes.read_text(encoding="utf-8"))
    try:
        made = Backend.model_validate(spelled)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PhimillError(f"{folder}: {where}: {first['msg']}.") from error
    _check(folder, made)
    return made


def _toml(path: Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PhimillError(f"{path} cannot be read: {error}.") from error


def _architecture(table: dict[str, Any]) -> dict[str, Any]:
    """A class's table with its tables of traits gathered under `when`."""
    traits = {name: value for name, value in table.items() if name in Traits.model_fields}
    return {**{name: value for name, value in table.items() if name not in traits}, "when": traits}


def _check(folder: Traversable, backend: Backend) -> None:
    """Ids are unique and start with the backend's; two recipes of one repo never write the same file."""
    for what, values in (
        ("id", [recipe.id for recipe in backend.recipes]),
        ("file", [f"{recipe.repo} {recipe.file}" for recipe in backend.recipes]),
    ):
        double = {value for value in values if values.count(value) > 1}
        if double:
            raise PhimillError(f"{folder}/recipes.toml: {what} {min(double)!r} is there twice.")
    known = {recipe.id: recipe for recipe in backend.recipes}
    for recipe in backend.recipes:
        where = f"{folder}/recipes.toml: {recipe.id!r}"
        if not recipe.id.startswith(f"{recipe.backend}/"):
            raise PhimillError(f"{where} does not start with its backend.")
        if recipe.baseline not in known or known[recipe.baseline].baseline != recipe.baseline:
            raise PhimillError(f"{where}: the baseline {recipe.baseline!r} is not a recipe that is its own baseline.")
        if unknown := {*recipe.only_when, *recipe.runtime_error} - set(Traits.model_fields):
            raise PhimillError(f"{where}: {min(unknown)!r} is not a trait.")
        if unknown := set(recipe.devices) - set(devices()):
            raise PhimillError(f"{where}: {min(unknown)!r} is not a device of bot/devices.toml.")
