"""The corpus of hostile repos: what each holds, and how looking at it has to end.

A case is a function that returns the files of a repo. Its docstring says what the author of such a repo is after.
The modules `hostile_*.py` register theirs here; `every_case()` has them all.
"""

from __future__ import annotations

import functools
import importlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import phi_repos
from hostile_hub import File

Made = dict[str, File]
Make = Callable[[Path], Made]

# How a look ends: as one of our errors by its code, as a verdict that refuses every GGUF recipe, or not at all.
UNSUPPORTED, CONVERTIBLE = "unsupported", "convertible"
# How a build of what is convertible ends: as one of our errors by its code, or so, without anything hostile in it.
PUBLISHED = "published"
THEMES = ("pickles", "code", "templates", "names", "headers", "lies", "config", "tokenizers", "listings", "cards")


@dataclass(frozen=True)
class Case:
    """One hostile repo.

    `look` is how `phimill check` ends and `says` is part of its reason; `build` is how `phimill convert` ends where
    the look lets it.
    """

    name: str
    theme: str
    make: Make
    look: str
    says: str = ""
    seconds: float = 180.0
    build: str = PUBLISHED

    @property
    def repo(self) -> str:
        # llama.cpp looks for "phi-3" in the name, and tokenizes accordingly.
        return f"eve/Phi-3-{self.name.replace('_', '-')}"


_CASES: dict[str, Case] = {}


def case(
    theme: str, look: str, says: str = "", *, seconds: float = 180.0, build: str = PUBLISHED
) -> Callable[[Make], Make]:
    """Register a function as a case. It gets the canary: a path at which no file may ever appear."""

    def register(make: Make) -> Make:
        name = make.__name__
        assert theme in THEMES
        assert name not in _CASES, name
        _CASES[name] = Case(name, theme, make, look, says, seconds, build)
        return make

    return register


def every_case() -> tuple[Case, ...]:
    """The whole corpus, by theme and name."""
    for module in ("weights", "code", "names", "headers", "metadata", "tokenizers", "listings", "cards"):
        importlib.import_module(f"hostile_{module}")
    return tuple(sorted(_CASES.values(), key=lambda case: (THEMES.index(case.theme), case.name)))


@functools.cache
def _kind(name: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        phi_repos.write(name, Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def good(kind: str = "phi3_mini_4k") -> Made:
    """A repo of `phi_repos` that has nothing wrong with it, as files by name."""
    return dict(_kind(kind))


def trained() -> Made:
    """The tiny trained Phi, which really can be converted."""
    folder = Path(__file__).parents[1] / "models" / "tiny-phi-3.5-instruct"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without(files: Made, *names: str) -> Made:
    return {name: data for name, data in files.items() if name not in names}


def with_json(files: Made, name: str, **changes: Any) -> Made:
    """`files` with some keys of one JSON file changed; a change to None takes the key away."""
    known = files[name]
    assert isinstance(known, bytes)
    table = {key: value for key, value in {**json.loads(known), **changes}.items() if value is not None}
    return {**files, name: json.dumps(table).encode()}


def with_config(**changes: Any) -> Made:
    """A good repo whose config.json says something else."""
    return with_json(good(), "config.json", **changes)


def with_raw_config(key: str, text: str) -> Made:
    """A good repo whose config.json has `text` as the value of `key`, written out as it is."""
    files = with_config(**{key: "@@"})
    config = files["config.json"]
    assert isinstance(config, bytes)
    return {**files, "config.json": config.replace(b'"@@"', text.encode())}
