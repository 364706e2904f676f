"""Spaces as records: hardware, sleep time, secrets and variables. Nothing here runs one."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, replace
from typing import Any, Literal

from bot.localhub import history, repos
from bot.localhub.calls import text_field
from bot.localhub.errors import BadRequestError
from bot.localhub.repos import Repo

Kind = Literal["secret", "variable"]
KINDS: tuple[Kind, ...] = ("secret", "variable")

FREE = "cpu-basic"
MAX_VALUE = 64 * 1024  # characters
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,255}")
_FLAVOR = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_APP_FILES = {"gradio": "app.py", "docker": "Dockerfile", "static": "index.html"}


def insert(connection: sqlite3.Connection, repo: Repo, body: dict[str, Any]) -> None:
    """Keep what the `create` call says of a new Space. Raises `BadRequestError` for what cannot be."""
    if body.get("hardware") is not None:
        set_hardware(connection, repo, body["hardware"])
    if body.get("sleepTimeSeconds") is not None:
        set_sleep_time(connection, repo, body["sleepTimeSeconds"])
    for kind in KINDS:
        given = body.get(f"{kind}s") or []
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise BadRequestError(f"'{kind}s' must be a list of objects.")
        for item in given:
            put(connection, repo, kind, item)


def set_hardware(connection: sqlite3.Connection, repo: Repo, flavor: Any) -> None:
    """Ask for a machine. A sleep time that was set for another one goes with that."""
    if not isinstance(flavor, str) or not _FLAVOR.fullmatch(flavor):
        raise BadRequestError("'flavor' must be the name of a kind of hardware.")
    kept = _row(connection, repo)
    if flavor != kept.hardware:
        _keep(connection, repo, replace(kept, hardware=flavor, sleep_time=None))


def set_sleep_time(connection: sqlite3.Connection, repo: Repo, seconds: Any) -> None:
    """Say after how many idle seconds the Space sleeps; -1 for never."""
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not -1 <= seconds <= 10**9:
        raise BadRequestError("'seconds' must be a number of seconds, or -1 for never.")
    _keep(connection, repo, replace(_row(connection, repo), sleep_time=seconds))


def set_paused(connection: sqlite3.Connection, repo: Repo, paused: bool) -> None:
    """Pause the Space, or end the pause."""
    if repo.sdk == "static":
        raise BadRequestError("A static Space always runs: it cannot be paused or restarted.")
    _keep(connection, repo, replace(_row(connection, repo), paused=paused))


def runtime(connection: sqlite3.Connection, repo: Repo) -> dict[str, Any]:
    """Return the Space's state as the `runtime` call tells it. The stage says that it does not run here."""
    kept = _row(connection, repo)
    head = history.resolve(connection, repo, "main")
    started = _APP_FILES.get(repo.sdk or "") in history.entries(connection, head.id)
    stage = "PAUSED" if kept.paused else "STOPPED" if started else "NO_APP_FILE"
    return {
        "stage": stage,
        "hardware": {"current": None, "requested": kept.hardware},
        "gcTimeout": kept.sleep_time,
        "storage": None,
    }


def put(connection: sqlite3.Connection, repo: Repo, kind: Kind, item: dict[str, Any]) -> None:
    """Set a secret or a variable. A name stands for one of the two. Raises `BadRequestError` for a bad one."""
    key, value = text_field(item, "key"), text_field(item, "value")
    description = text_field(item, "description", "") or None
    if not _KEY.fullmatch(key):
        raise BadRequestError(f"Invalid key {key[:100]!r}: it must be a letter, then letters, digits and '_'.")
    if len(value) > MAX_VALUE or len(description or "") > MAX_VALUE:
        raise BadRequestError(f"A {kind} holds at most {MAX_VALUE} characters.")
    other = "variable" if kind == "secret" else "secret"
    if connection.execute(
        "SELECT 1 FROM space_settings WHERE repo_id = ? AND kind = ? AND key = ?", (repo.id, other, key)
    ).fetchone():
        raise BadRequestError(f"{key!r} is the name of a {other} of this Space.")
    kept = None if kind == "secret" else value
    connection.execute(
        "INSERT OR REPLACE INTO space_settings VALUES (?, ?, ?, ?, ?, ?)",
        (repo.id, kind, key, kept, description, repos.now()),
    )


def remove(connection: sqlite3.Connection, repo: Repo, kind: Kind, key: str) -> None:
    """Forget a secret or a variable, if it is there."""
    connection.execute("DELETE FROM space_settings WHERE repo_id = ? AND kind = ? AND key = ?", (repo.id, kind, key))


def named(connection: sqlite3.Connection, repo: Repo, kind: Kind) -> dict[str, Any]:
    """Return the secrets or the variables by name. A secret's value is never told."""
    rows = connection.execute(
        "SELECT * FROM space_settings WHERE repo_id = ? AND kind = ? ORDER BY key", (repo.id, kind)
    )
    found = {}
    for row in rows:
        body = {"key": row["key"], "updatedAt": row["updated_at"]}
        if row["description"] is not None:
            body["description"] = row["description"]
        found[row["key"]] = body if kind == "secret" else {**body, "value": row["value"]}
    return found


@dataclass(frozen=True)
class _Asked:
    """What the owner asked for: as it is in the beginning, unless said otherwise."""

    hardware: str = FREE
    sleep_time: int | None = None
    paused: bool = False


def _row(connection: sqlite3.Connection, repo: Repo) -> _Asked:
    row = connection.execute("SELECT * FROM spaces WHERE repo_id = ?", (repo.id,)).fetchone()
    return _Asked(row["hardware"], row["sleep_time"], bool(row["paused"])) if row else _Asked()


def _keep(connection: sqlite3.Connection, repo: Repo, asked: _Asked) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO spaces (repo_id, hardware, sleep_time, paused) VALUES (?, ?, ?, ?)",
        (repo.id, asked.hardware, asked.sleep_time, asked.paused),
    )
