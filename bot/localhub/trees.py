"""A commit's flat list of files as folders: what the tree and paths-info calls answer."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.localhub import history
from bot.localhub.history import Entry, lfs_pointer


@dataclass(frozen=True)
class Folder:
    """A folder of one commit."""

    path: str
    oid: str  # git tree SHA-1
    changed_in: int


def folders(files: Mapping[str, Entry]) -> dict[str, Folder]:
    """Return every folder of `files` by path; the root is `""`."""
    children: dict[str, dict[str, Entry | Folder]] = {"": {}}
    for path, file in files.items():
        parent, _, name = path.rpartition("/")
        children.setdefault(parent, {})[name] = file
        while parent:
            parent = parent.rpartition("/")[0]
            children.setdefault(parent, {})
    found: dict[str, Folder] = {}
    # Longest paths first, so that a folder's own folders are known when it is hashed.
    for path in sorted(children, key=lambda path: (path.count("/"), len(path)), reverse=True):
        below = children[path]
        changed_in = max((child.changed_in for child in below.values()), default=0)
        found[path] = Folder(path, _tree_oid(below), changed_in)
        if path:
            parent, _, name = path.rpartition("/")
            children[parent][name] = found[path]
    return found


def listing(files: Mapping[str, Entry], folder: str, recursive: bool) -> list[Entry | Folder] | None:
    """Return what `folder` holds in path order, or None if there is no such folder."""
    known = folders(files)
    if folder not in known:
        return None
    prefix = f"{folder}/" if folder else ""
    everything: dict[str, Entry | Folder] = {**files, **{path: known[path] for path in known if path}}
    inside = (path for path in sorted(everything) if path.startswith(prefix) and path != folder)
    return [everything[path] for path in inside if recursive or "/" not in path[len(prefix) :]]


def describe(connection: sqlite3.Connection, items: Iterable[Entry | Folder], expand: bool) -> list[dict[str, Any]]:
    """Return the JSON of files and folders, with the commit that last touched each if `expand`."""
    chosen = list(items)
    commits = history.by_ids(connection, {item.changed_in for item in chosen}) if expand else {}
    described = []
    for item in chosen:
        body: dict[str, Any] = {"type": "directory", "oid": item.oid, "size": 0, "path": item.path}
        if isinstance(item, Entry):
            body |= {"type": "file", "size": item.size}
            if item.lfs:
                body["lfs"] = lfs_info(item)
        if commit := commits.get(item.changed_in):
            body["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
        described.append(body)
    return described


def lfs_info(file: Entry) -> dict[str, Any]:
    """Return the JSON that marks a large file."""
    pointer = lfs_pointer(file.sha256, file.size)
    return {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}


def _tree_oid(children: Mapping[str, Entry | Folder]) -> str:
    """Hash a folder as git does; folders sort as if their name ended in a slash."""
    body = b""
    for name in sorted(children, key=lambda name: name + ("/" if isinstance(children[name], Folder) else "")):
        mode = b"40000" if isinstance(children[name], Folder) else b"100644"
        body += mode + b" " + name.encode() + b"\0" + bytes.fromhex(children[name].oid)
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
