"""A repository as the JSON objects of the `info` and `list` calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

from bot.localhub import history, metadata, spaces
from bot.localhub.calls import Call
from bot.localhub.history import Commit
from bot.localhub.metadata import Metadata
from bot.localhub.repos import Repo
from bot.localhub.trees import lfs_info

_LISTED = frozenset({
    "author", "createdAt", "disabled", "downloads", "gated", "lastModified", "library_name", "likes",
    "modelId", "pipeline_tag", "private", "sdk", "sha", "tags", "trendingScore",
})  # fmt: skip
_FULL = _LISTED | {"siblings"}
_INFO = _FULL | {"cardData", "config", "gguf", "runtime", "safetensors", "usedStorage"}


def listed_fields(call: Call) -> Collection[str]:
    """Return the fields that a `list` call asks for."""
    if expand := call.query.getlist("expand"):
        return set(expand)
    fields = _FULL if call.flag("full") else _LISTED
    return fields | {name for name in ("cardData", "config") if call.flag(name)}


def info_fields(call: Call) -> Collection[str]:
    """Return the fields that an `info` call asks for."""
    return set(call.query.getlist("expand")) or _INFO


def describe(
    call: Call,
    connection: sqlite3.Connection,
    repo: Repo,
    commit: Commit,
    fields: Collection[str],
    blobs: bool = False,
) -> dict[str, Any]:
    """Return the chosen fields of a repository at a commit."""
    found = metadata.of(call.hub.store, connection, repo, commit)
    body = _record_fields(repo, commit) | _derived_fields(repo, found)
    if "siblings" in fields:
        body["siblings"] = _siblings(connection, commit, blobs)
    if "usedStorage" in fields:
        body["usedStorage"] = _used_storage(connection, repo)
    if "runtime" in fields and repo.type == "space":
        body["runtime"] = spaces.runtime(connection, repo)
    always = {"_id": repo.id, "id": repo.full_name}
    return always | {name: value for name, value in body.items() if name in fields and value is not None}


def _record_fields(repo: Repo, commit: Commit) -> dict[str, Any]:
    return {
        "author": repo.owner,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repo.created_at,
        "private": repo.private,
        "gated": repo.gated or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "trendingScore": 0,
        "sdk": repo.sdk,
    }


def _derived_fields(repo: Repo, found: Metadata) -> dict[str, Any]:
    body: dict[str, Any] = {"tags": found.tags, "cardData": found.card}
    if repo.type == "model":
        body |= {
            "modelId": repo.full_name,
            "pipeline_tag": found.pipeline_tag,
            "library_name": found.library_name,
            "config": found.config,
            "safetensors": found.safetensors,
            "gguf": {} if "gguf" in found.tags else None,
        }
    return body


def _siblings(connection: sqlite3.Connection, commit: Commit, blobs: bool) -> list[dict[str, Any]]:
    siblings = []
    for file in history.entries(connection, commit.id).values():
        body: dict[str, Any] = {"rfilename": file.path}
        if blobs:
            body |= {"blobId": file.oid, "size": file.size}
            if file.lfs:
                body["lfs"] = {**lfs_info(file), "sha256": file.sha256}
        siblings.append(body)
    return siblings


def _used_storage(connection: sqlite3.Connection, repo: Repo) -> int:
    """Return the bytes of all distinct contents in the repository's whole history."""
    (total,) = connection.execute(
        "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT sha256, entries.size FROM entries"
        " JOIN commits ON commits.id = commit_id WHERE repo_id = ?)",
        (repo.id,),
    ).fetchone()
    return int(total)
