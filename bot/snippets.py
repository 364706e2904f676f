"""Commands with placeholders, as the backends' data holds them, filled in for one variant."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._/+-]")


def names(*, repo: str, source: str, tag: str, file: str, context: int) -> dict[str, str]:
    """What the placeholders of a snippet stand for: {repo}, {ns} (its owner), {m} (the source's name), {tag} (what
    to pin), {context} (tokens), and of the variant {file}, {folder} (where the file lies) and {quant} (Q4_K_M of
    m-Q4_K_M.gguf).
    """
    model = source.rpartition("/")[2]
    quant = re.sub(r"(-\d{5}-of-\d{5})?\.\w+$", "", file).removeprefix(f"{model}-")
    return {
        "repo": repo, "ns": repo.partition("/")[0], "m": model,
        "tag": tag, "file": file, "folder": file.rpartition("/")[0] or ".", "quant": quant, "context": str(context),
    }  # fmt: skip


def fill(text: str, values: Mapping[str, str]) -> str:
    """A command with its placeholders filled. People paste these into shells: only name characters go in."""
    # In one pass, so that no value is searched for placeholders itself; other braces are the command's own.
    placeholders = re.compile(r"\{(" + "|".join(values) + r")\}")
    return placeholders.sub(lambda match: _NOT_A_NAME.sub("_", values[match[1]]), text)
