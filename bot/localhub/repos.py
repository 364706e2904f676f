"""Repositories as records: find, make, rename, change, remove."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bot.localhub.errors import ConflictError

Gated = Literal["", "auto", "manual"]


@dataclass(frozen=True)
class Repo:
    """One repository."""

    id: str
    type: str
    owner: str
    name: str
    private: bool
    gated: Gated
    sdk: str | None
    created_at: str

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def url_path(self) -> str:
        """The path of its web page: only models have no prefix."""
        return f"/{self.full_name}" if self.type == "model" else f"/{self.type}s/{self.full_name}"


def now() -> str:
    """Return the time as the Hub writes it: ISO 8601, milliseconds, UTC, `Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """Return 24 fresh hex digits, the shape of the Hub's object ids."""
    return secrets.token_hex(12)


def find(connection: sqlite3.Connection, type_: str, owner: str, name: str) -> Repo | None:
    """Return the repository of that name in any letter case, if there is one."""
    row = connection.execute(
        "SELECT * FROM repos WHERE type = ? AND owner = ? AND name = ?", (type_, owner, name)
    ).fetchone()
    return from_row(row) if row else None


def find_all(connection: sqlite3.Connection, type_: str) -> list[Repo]:
    """Return every repository of a type, oldest first."""
    rows = connection.execute("SELECT * FROM repos WHERE type = ? ORDER BY created_at, id", (type_,))
    return [from_row(row) for row in rows]


def insert(connection: sqlite3.Connection, repo: Repo) -> None:
    """Add a repository. Raises `ConflictError` if the name is taken."""
    taken = find(connection, repo.type, repo.owner, repo.name)
    if taken is not None:
        raise ConflictError(f"You already created this {repo.type} repo: {taken.full_name}")
    connection.execute(
        "INSERT INTO repos (id, type, owner, name, private, gated, sdk, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (repo.id, repo.type, repo.owner, repo.name, repo.private, repo.gated, repo.sdk, repo.created_at),
    )


def rename(connection: sqlite3.Connection, repo: Repo, owner: str, name: str) -> None:
    """Give `repo` a new owner and name. Raises `ConflictError` if they are taken."""
    taken = find(connection, repo.type, owner, name)
    if taken is not None and taken.id != repo.id:
        raise ConflictError(f"The {repo.type} repo {taken.full_name} already exists.")
    connection.execute("UPDATE repos SET owner = ?, name = ? WHERE id = ?", (owner, name, repo.id))


def from_row(row: sqlite3.Row) -> Repo:
    """Read a `repos` row."""
    return Repo(
        row["id"], row["type"], row["owner"], row["name"], bool(row["private"]), row["gated"], row["sdk"],
        row["created_at"],
    )  # fmt: skip
