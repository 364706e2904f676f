"""Which names a repo's files may have, and what each file means to us.

A name from a repo is untrusted: it becomes a path on our disk, on a person's Windows laptop and in a URL.
So one rule for all of them (`check`), and one table (`KINDS`) that says what a change of a file means for
what was made from it. A file that is not in the table is neither downloaded nor watched: no `*.py`, no
pickles.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import PurePosixPath

from bot.errors import SourceCorrupt
from bot.models import FileKind, SourceFile

MAX_FILES = 10_000
MAX_NAME = 200

# Deliberately ASCII: two names that differ only by a look-alike or by normalisation are one file on some
# disks.
_PART = re.compile(r"[A-Za-z0-9_.+@()=, -]+")
# Names that Windows keeps for devices, whatever their extension.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

INDEX = "model.safetensors.index.json"

# First match wins; patterns are of whole paths at the top of the repo.
KINDS: tuple[tuple[str, FileKind], ...] = (
    ("*/*", FileKind.IGNORED),
    ("README.md", FileKind.README),
    ("LICENSE*", FileKind.README),
    ("NOTICE*", FileKind.README),
    ("config.json", FileKind.WEIGHTS),
    ("*.safetensors", FileKind.WEIGHTS),
    ("*.safetensors.index.json", FileKind.WEIGHTS),
    ("generation_config.json", FileKind.ASSETS),
    ("tokenizer.json", FileKind.ASSETS),
    ("tokenizer.model", FileKind.ASSETS),
    ("tokenizer_config.json", FileKind.ASSETS),
    ("special_tokens_map.json", FileKind.ASSETS),
    ("added_tokens.json", FileKind.ASSETS),
    ("vocab.json", FileKind.ASSETS),
    ("merges.txt", FileKind.ASSETS),
    ("preprocessor_config.json", FileKind.ASSETS),
    ("processor_config.json", FileKind.ASSETS),
    ("chat_template.json", FileKind.ASSETS),
    ("*.jinja", FileKind.ASSETS),
)


def kind(path: str) -> FileKind:
    """What a change of the file at `path` means."""
    return next((kind for pattern, kind in KINDS if fnmatch.fnmatchcase(path, pattern)), FileKind.IGNORED)


def wanted(files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
    """The files that are downloaded, in the order of the listing."""
    return tuple(file for file in files if kind(file.path) is not FileKind.IGNORED)


def check(path: str) -> PurePosixPath:
    """Return `path` as a relative path that is safe on every system.

    Raises:
        SourceCorrupt: traversal, an absolute, drive or UNC path, a control or non-ASCII character, a device
            name, a part that ends in a dot or a space (Windows drops those), or an over-long name.
    """
    parts = path.split("/")
    if len(path) > MAX_NAME or not all(map(_is_safe, parts)):
        raise SourceCorrupt(f"The repo holds a file named {path[:MAX_NAME]!r}.", "Such a name is refused.")
    return PurePosixPath(*parts)


def check_all(files: tuple[SourceFile, ...]) -> None:
    """Check the names of everything that would be downloaded, and that each is a file of its own.

    Raises:
        SourceCorrupt: a bad name, or two that differ only in case.
    """
    seen: dict[str, str] = {}
    for file in wanted(files):
        check(file.path)
        twin = seen.setdefault(file.path.casefold(), file.path)
        if twin != file.path:
            raise SourceCorrupt(f"The repo holds both {twin!r} and {file.path!r}.", "They are one file on some disks.")


def _is_safe(part: str) -> bool:
    return bool(_PART.fullmatch(part)) and part[-1] not in ". " and not _DEVICE.fullmatch(part)
