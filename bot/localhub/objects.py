"""Which large files a repository may commit.

Blobs are shared by all repositories, but naming one is not having it: a repository gets a blob by uploading
it, or from a repository that the caller may download from.
"""

from __future__ import annotations

import sqlite3

from bot.localhub.errors import NotFoundError


def size_in(connection: sqlite3.Connection, repo_id: str, sha256: str) -> int | None:
    """Return the size of a large file that the repository was given, or None."""
    row = connection.execute(
        "SELECT size FROM repo_objects WHERE repo_id = ? AND sha256 = ?", (repo_id, sha256)
    ).fetchone()
    return row["size"] if row else None


def referenced(connection: sqlite3.Connection) -> set[str]:
    """Return the blobs that any repository holds or may commit."""
    rows = connection.execute("SELECT sha256 FROM entries UNION SELECT sha256 FROM repo_objects")
    return {row["sha256"] for row in rows}


def grant(connection: sqlite3.Connection, repo_id: str, sha256: str, size: int) -> None:
    """Let the repository commit a large file. Raises `NotFoundError` if the repository is gone."""
    try:
        connection.execute("INSERT OR IGNORE INTO repo_objects VALUES (?, ?, ?)", (repo_id, sha256, size))
    except sqlite3.IntegrityError as error:
        raise NotFoundError("The repository was deleted during the upload.") from error
