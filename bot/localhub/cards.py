"""The YAML front matter of a README.md: parse it and say what is wrong with it."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

import yaml

from bot.localhub.errors import BadRequestError

MAX_FRONT_MATTER = 512 * 1024
MAX_BRACKETS = 5000  # a parser of YAML takes the square of their depth
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
# PyYAML's constructors look things up without asking first: `!!bool maybe`, `!!int ""`, `!!timestamp never`.
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
_RELATIONS = ("adapter", "merge", "quantized", "finetune")


def split(text: str) -> tuple[str | None, str]:
    """Return the front matter, without its fences, or None, and the rest of the card."""
    match = _FRONT_MATTER.match(text)
    return (match[1], text[match.end() :]) if match else (None, text)


def front_matter(text: str) -> dict[str, Any] | None:
    """Return a card's metadata as plain JSON values, or None if it has no front matter.

    Raises:
        BadRequestError: it is not a YAML mapping, is too long, or uses aliases (they can grow without bound).
    """
    header, _ = split(text)
    if header is None:
        return None
    if len(header) > MAX_FRONT_MATTER or header.count("[") + header.count("{") > MAX_BRACKETS:
        raise BadRequestError("The YAML front matter is too long.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(header, Loader=yaml.CSafeLoader)):
            raise BadRequestError("YAML aliases are not allowed in the front matter.")
        value = plain(yaml.load(header, Loader=yaml.CSafeLoader))
    except _UNREADABLE as error:
        raise BadRequestError(f"The YAML front matter cannot be read: {_one_line(error)}") from error
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadRequestError("The YAML front matter must be a mapping of keys to values.")
    return value


def problems(card: dict[str, Any], repo_type: str) -> list[str]:
    """Return what the Hub would refuse in a card's metadata, one sentence each."""
    found = []
    for key in ("license", "library_name", "pipeline_tag", "license_name", "license_link", "model_name"):
        if key in card and not isinstance(card[key], (str, list) if key == "license" else str):
            found.append(f'"{key}" must be a string')
    for key in ("tags", "datasets", "language", "base_model", "metrics"):
        values = as_list(card.get(key))
        if any(not isinstance(value, str) for value in values):
            found.append(f'"{key}" must be a string or a list of strings')
    if card.get("tags") is not None and not isinstance(card["tags"], list):
        found.append('"tags" must be an array')
    for value in as_list(card.get("base_model")):
        if isinstance(value, str) and not _REPO_ID.fullmatch(value):
            found.append(f'"base_model" {value[:100]!r} is not the id of a model on the Hub')
    if card.get("base_model_relation") is not None and card["base_model_relation"] not in _RELATIONS:
        found.append(f'"base_model_relation" must be one of {", ".join(_RELATIONS)}')
    if repo_type == "space" and not isinstance(card.get("sdk"), str):
        found.append('"sdk" is required')
    return found


def plain(value: Any) -> Any:
    """Return an untrusted parsed value as one that can always be sent as JSON.

    What YAML or Python's reading of JSON can say and JSON cannot becomes text, or None for an endless number.
    """
    if isinstance(value, dict):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return None
    return value


def as_list(value: Any) -> list[Any]:
    """Return a value that a card may give alone or as a list, as a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
