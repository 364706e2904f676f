"""Recipes to be tried: a backend's own, and those of `converters/<backend>/candidates.toml`. And a recipe as TOML.

One table `[[candidate]]` names the recipe that it is `like`, and what it does otherwise; whatever it leaves out is
that recipe's. Only the commands to do the same by hand are never taken over: they would do something else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from pydantic import ValidationError

from bot import recipes
from bot.errors import PhimillError, UsageError
from bot.models import Precision, Recipe, Release
from bot.recipes import Backend

OWN = ("id", "title", "file", "bits_per_weight", "options")  # what makes it another recipe
INHERITED = ("backend", "baseline")  # what it cannot change
SHARED = ("repo", "baseline", "runtime")  # what a backend may say once for all its recipes
_ID = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9_.+-]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@lru_cache(maxsize=8)
def extra(backend: str) -> tuple[Recipe, ...]:
    """What a backend's `candidates.toml` adds to its own recipes; nothing where there is none.

    Raises:
        PhimillError: the file is wrong; says where.
    """
    path = files("converters") / backend / "candidates.toml"
    return read(path, recipes.backends()[backend].recipes) if path.is_file() else ()


def select(backend: Backend, precision: Precision, release: Release, asked: Sequence[str] = ()) -> tuple[Recipe, ...]:
    """The candidates of a precision: those asked for, or all that suit the release. The yardstick is among them.

    What suits none of the yardstick's devices (a recipe for a GPU, where that is for the CPU) could not take its
    place, and is tried only when asked for.

    Raises:
        UsageError: there is no such candidate, or none at all.
    """
    known = [recipe for recipe in (*backend.recipes, *extra(backend.id)) if recipe.precision is precision]
    names = [recipe.id for recipe in known]
    for name in asked:
        if name not in names:
            raise UsageError(
                f"{name!r} is no {precision} candidate of {backend.id}.", f"There are {', '.join(names) or 'none'}."
            )
    size = yardstick(backend, precision, release)
    rivals = [r for r in known if not (r.devices and size.devices) or set(r.devices) & set(size.devices)]
    return tuple(
        r for r in known if r == size or (r.id in asked if asked else r in rivals and r.suits_release(release))
    )


def yardstick(backend: Backend, precision: Precision, release: Release) -> Recipe:
    """The recipe whose size is the measure: the cookbook's, else a default one, else any that suits the release.

    Raises:
        UsageError: the backend makes nothing of this precision.
    """
    own = [r for r in backend.recipes if r.precision is precision and r.suits_release(release)]
    if not own:
        raise UsageError(
            f"{backend.id} has no {precision} recipe for {release.repo}.", "`phimill recipes` lists them."
        )
    return min(own, key=lambda r: (r.preset != "cookbook", not r.default))


def read(path: Traversable, own: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The candidates in a file, beside a backend's `own` recipes. Raises as `extra`."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("candidate", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PhimillError(f"{path} cannot be read: {error}.") from error
    known = {recipe.id: recipe for recipe in own}
    made = tuple(_candidate(path, at, table, known) for at, table in enumerate(tables))
    for what, values in (
        ("id", [r.id for r in (*own, *made)]),
        ("file", [f"{r.repo} {r.file}" for r in (*own, *made)]),
    ):
        double = {value for value in values if values.count(value) > 1}
        if double:
            raise PhimillError(f"{path}: {what} {min(double)!r} is there twice, or a recipe's.")
    return made


def _candidate(path: Traversable, at: int, table: dict[str, Any], known: dict[str, Recipe]) -> Recipe:
    where = f"{path}: candidate.{at}"
    given = dict(table)
    like = known.get(given.pop("like", ""))
    if like is None:
        raise PhimillError(f"{where}: `like` names no recipe of this backend.")
    if missing := [name for name in OWN if name not in given]:
        raise PhimillError(f"{where}: {missing[0]!r} is missing.")
    if fixed := [name for name in INHERITED if name in given]:
        raise PhimillError(f"{where}: {fixed[0]!r} is that of {like.id}.")
    try:
        made = Recipe.model_validate({**like.model_dump(), "by_hand": (), **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise PhimillError(f"{where}.{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    if not _ID.fullmatch(made.id) or not made.id.startswith(f"{made.backend}/"):
        raise PhimillError(f"{where}: {made.id!r} is not {made.backend}/ and a name in small letters.")
    return made


def as_toml(recipe: Recipe, backend: Backend) -> str:
    """The recipe as a table for the backend's `recipes.toml`. Left out is what is the default, or the same in every
    recipe of the backend: its own tables say that.
    """
    same = {name for name in SHARED if all(getattr(r, name) == getattr(recipe, name) for r in backend.recipes)}
    said = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"backend", *same})
    lines = [f"{name} = {spelled(value)}" for name, value in said.items()]
    return "\n".join(["[[recipe]]", *lines]) + "\n"


def spelled(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    if isinstance(value, str):
        # A basic string of TOML is JSON's, but for one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        pairs = (f"{_key(name)} = {spelled(inner)}" for name, inner in value.items() if inner is not None)
        return "{ " + ", ".join(pairs) + " }"
    items = [spelled(item) for item in value]
    line = f"[{', '.join(items)}]"
    return line if len(line) < 100 else "[\n" + "".join(f"    {item},\n" for item in items) + "]"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else spelled(name)
