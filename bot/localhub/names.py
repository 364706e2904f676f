"""Which names and paths the Hub accepts."""

from __future__ import annotations

import re

from bot.localhub.errors import BadRequestError

REPO_TYPES = ("model", "dataset", "space")
MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REF = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/+-]{0,198}[A-Za-z0-9_+-])?")
_DRIVE = re.compile(r"[A-Za-z]:")
# Owner names that would shadow the server's own routes.
_RESERVED = frozenset({"api", "cas", "lfs", "datasets", "spaces", "collections", "static", "settings", "oauth"})


def check_name(name: str, what: str = "repository name") -> str:
    """Return `name` if it can be half of a repository id.

    Raises:
        BadRequestError: it breaks the Hub's rules: 1-96 characters of `A-Z a-z 0-9 . _ -`, no `--` or `..`,
            no leading or trailing `-` or `.`, and not ending in `.git`.
    """
    if not _NAME.fullmatch(name) or "--" in name or ".." in name or name.lower().endswith(".git"):
        raise BadRequestError(f"Invalid {what} {name[:100]!r}: use 1 to 96 letters, digits, '-', '_' or '.'.")
    return name


def check_namespace(name: str) -> str:
    """Return `name` if it can name a user or an organisation, else raise `BadRequestError`."""
    if check_name(name, "namespace").lower() in _RESERVED:
        raise BadRequestError(f"Invalid namespace {name!r}: the name is reserved.")
    return name


def check_ref(name: str) -> str:
    """Return `name` if it can name a tag or a branch.

    Raises:
        BadRequestError: git would refuse it, it names another ref (`refs/...`), or it looks like a commit id.
    """
    broken = ".." in name or "//" in name or "/." in name or name.endswith((".lock", "/", "."))
    if not _REF.fullmatch(name) or broken or name.startswith("refs/") or re.fullmatch("[0-9a-f]{40}", name):
        raise BadRequestError(f"Invalid reference name {name[:100]!r}.")
    return name


def check_path(path: str) -> str:
    """Return `path` if it can name a file inside a repository on every platform.

    Raises:
        BadRequestError: it is absolute, climbs, is empty in part, too long, or holds a backslash, a drive
            letter or a control character.
    """
    problem = _path_problem(path)
    if problem:
        raise BadRequestError(f"Invalid path in repository {path[:200]!r}: {problem}.")
    return path


def _path_problem(path: str) -> str | None:
    if not path or path.startswith("/"):
        return "it must be relative and not empty"
    if any(ord(char) < 32 or ord(char) == 127 for char in path) or "\\" in path:
        return "it holds a control character or a backslash"
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "it has an empty, '.' or '..' segment"
    if any(segment.lower() == ".git" for segment in segments):
        return "'.git' is reserved"
    if _DRIVE.match(path):
        return "it starts with a drive letter"
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_SEGMENT_BYTES for part in segments):
        return f"it is longer than {MAX_PATH_BYTES} bytes or has a segment over {MAX_SEGMENT_BYTES}"
    return None
