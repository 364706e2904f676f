"""A backend whose recipes go to two repos, each with an unquantized export of its own. Data only: it makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import recipes, toolchain
from bot.models import digest
from bot.recipes import Backend

MODEL = "microsoft/phi"
DESK, WEB = "phimill/phi-twin", "phimill/phi-twin-web"

_BACKEND = """
[backend]
id = "twin"
title = "Twin"
repo = "{ns}/{m}-twin"
baseline = "twin/fp32"
library_name = "twin"
"""
_RECIPE = """
[[recipe]]
id = "twin/%s"
title = "%s"
precision = "%s"
preset = "recommended"
file = "{m}-%s.bin"
bits_per_weight = %d
suits = "Tests."
"""
_ON_THE_WEB = 'repo = "{ns}/{m}-twin-web"\nbaseline = "twin/web-fp32"\n'
_KNOWN = 'runtime_error = { longrope = "Its runtime has no LongRoPE." }\n'
_DEFAULT = "default = true\n"


def _recipe(name: str, precision: str, bits: int, *more: str) -> str:
    return _RECIPE % (name, name, precision, name, bits) + "".join(more)


DATA = "".join(
    [
        _BACKEND,
        _recipe("int4", "INT4", 4, _DEFAULT),
        _recipe("fp32", "FP32", 32, _DEFAULT),
        _recipe("int8", "INT8", 8),
        _recipe("web-int4", "INT4", 4, _ON_THE_WEB, _KNOWN, _DEFAULT),
        _recipe("web-fp32", "FP32", 32, _ON_THE_WEB, _KNOWN, _DEFAULT),
        _recipe("web-moe", "INT4", 4, _ON_THE_WEB, "only_when = { experts = true }\n", _DEFAULT),
    ]
)
ARCHITECTURES = '[Phi3ForCausalLM]\nstatus = "supported"\nreason = "It is known."\n'


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Make this the only backend there is, with a toolchain that never changes."""
    folder.mkdir(parents=True)
    (folder / "recipes.toml").write_text(DATA, encoding="utf-8")
    (folder / "architectures.toml").write_text(ARCHITECTURES, encoding="utf-8")
    backend = recipes.load(folder)
    monkeypatch.setattr(recipes, "backends", lambda: {backend.id: backend})
    monkeypatch.setattr(toolchain, "lock_digest", lambda name: digest("lock", name))
    return backend
