"""Commits, branches and tags: which files a repository held at which revision."""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from bot.localhub.errors import RevisionNotFoundError
from bot.localhub.repos import Repo, now


@dataclass(frozen=True)
class Entry:
    """One file of one commit."""

    path: str
    oid: str  # git blob SHA-1; of the pointer file, for LFS
    size: int
    sha256: str
    lfs: bool
    changed_in: int = 0  # the commit that last touched it; 0 until it is committed

    @property
    def etag(self) -> str:
        """What a client compares: the SHA-256 of a large file, the git SHA-1 of a regular one."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """One commit."""

    id: int
    repo_id: str
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str


def git_blob_oid(content: bytes) -> str:
    """Return the SHA-1 that git gives a blob of `content`."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """Return the pointer file that stands for a large file in git (git-lfs specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def resolve(connection: sqlite3.Connection, repo: Repo, revision: str) -> Commit:
    """Return the commit that a branch, a tag, a full ref or an (abbreviated) commit id names.

    Raises:
        RevisionNotFoundError: nothing in the repository has that name.
    """
    for kind, prefix in (("branch", "refs/heads/"), ("tag", "refs/tags/")):
        name = revision.removeprefix(prefix)
        oid = ref(connection, repo, kind, name)
        if oid is not None:
            return _by_oid(connection, repo, oid, revision)
    if not re.fullmatch("[0-9a-f]{7,40}", revision):
        raise RevisionNotFoundError(revision)
    rows = connection.execute(
        "SELECT oid FROM commits WHERE repo_id = ? AND oid BETWEEN ? AND ? || 'g'",
        (repo.id, revision, revision),
    ).fetchall()
    if len(rows) != 1:
        raise RevisionNotFoundError(revision)
    return _by_oid(connection, repo, rows[0]["oid"], revision)


def ref(connection: sqlite3.Connection, repo: Repo, kind: str, name: str) -> str | None:
    """Return the commit id that a branch or a tag points at, or None."""
    row = connection.execute(
        "SELECT oid FROM refs WHERE repo_id = ? AND kind = ? AND name = ?", (repo.id, kind, name)
    ).fetchone()
    return row["oid"] if row else None


def refs(connection: sqlite3.Connection, repo: Repo, kind: str) -> dict[str, str]:
    """Return all branches or all tags as name -> commit id."""
    rows = connection.execute(
        "SELECT name, oid FROM refs WHERE repo_id = ? AND kind = ? ORDER BY name", (repo.id, kind)
    )
    return {row["name"]: row["oid"] for row in rows}


def set_ref(connection: sqlite3.Connection, repo: Repo, kind: str, name: str, oid: str) -> None:
    """Point a branch or a tag at a commit."""
    connection.execute("INSERT OR REPLACE INTO refs VALUES (?, ?, ?, ?)", (repo.id, kind, name, oid))


def entries(connection: sqlite3.Connection, commit_id: int) -> dict[str, Entry]:
    """Return the files of a commit by path, in path order."""
    rows = connection.execute("SELECT * FROM entries WHERE commit_id = ? ORDER BY path", (commit_id,))
    return {row["path"]: _entry(row) for row in rows}


def entry(connection: sqlite3.Connection, commit_id: int, path: str) -> Entry | None:
    """Return one file of a commit, or None."""
    row = connection.execute("SELECT * FROM entries WHERE commit_id = ? AND path = ?", (commit_id, path)).fetchone()
    return _entry(row) if row else None


def log(connection: sqlite3.Connection, commit: Commit, limit: int, offset: int = 0) -> list[Commit]:
    """Return `commit` and its ancestors, newest first, from the `offset`-th on."""
    rows = connection.execute(
        "WITH RECURSIVE line (oid, depth) AS (SELECT ?, 0 UNION ALL SELECT commits.parent, depth + 1"
        " FROM line JOIN commits ON commits.oid = line.oid WHERE commits.parent IS NOT NULL)"
        " SELECT commits.* FROM line JOIN commits ON commits.oid = line.oid ORDER BY depth LIMIT ? OFFSET ?",
        (commit.oid, limit, offset),
    )
    return [Commit(**row) for row in rows]


def by_ids(connection: sqlite3.Connection, ids: set[int]) -> dict[int, Commit]:
    """Return commits by their row id."""
    marks = ",".join("?" * len(ids))
    rows = connection.execute(f"SELECT * FROM commits WHERE id IN ({marks})", tuple(ids))  # noqa: S608
    return {row["id"]: Commit(**row) for row in rows}


def insert(
    connection: sqlite3.Connection,
    repo: Repo,
    parent: Commit | None,
    files: Mapping[str, Entry],
    author: str,
    title: str,
    message: str,
) -> Commit:
    """Add a commit that holds exactly `files`. The caller moves the branch, in the same transaction."""
    date = now()
    listing = "".join(f"{path}\0{files[path].oid}\n" for path in sorted(files))
    # The nonce keeps two equal commits of one second apart, as the committer line does in git.
    identity = [parent.oid if parent else "", author, date, title, message, secrets.token_hex(8), listing]
    oid = hashlib.sha1("\n".join(identity).encode(), usedforsecurity=False).hexdigest()
    cursor = connection.execute(
        "INSERT INTO commits (repo_id, oid, parent, title, message, author, date) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (repo.id, oid, parent.oid if parent else None, title, message, author, date),
    )
    commit_id = int(cursor.lastrowid or 0)
    connection.executemany(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (commit_id, path, file.oid, file.size, file.sha256, file.lfs, file.changed_in or commit_id)
            for path, file in files.items()
        ],
    )
    return Commit(commit_id, repo.id, oid, parent.oid if parent else None, title, message, author, date)


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        row["path"], row["oid"], row["size"], row["sha256"], bool(row["lfs"]), row["changed_in"]
    )  # fmt: skip


def _by_oid(connection: sqlite3.Connection, repo: Repo, oid: str, revision: str) -> Commit:
    row = connection.execute("SELECT * FROM commits WHERE repo_id = ? AND oid = ?", (repo.id, oid)).fetchone()
    if row is None:
        raise RevisionNotFoundError(revision)
    return Commit(**row)
