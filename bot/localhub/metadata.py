"""What the Hub computes from a commit's files: card, tags, library, task, parameters.

A commit never changes, so its metadata is computed once per process.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from bot.localhub import cards, history, tags
from bot.localhub.errors import BadRequestError
from bot.localhub.history import Commit, Entry
from bot.localhub.repos import Repo
from bot.localhub.store import BlobStore

_READABLE = 4 * 1024 * 1024  # bytes of a file worth parsing
_CACHED = 4096
_MAX_HEADERS = 64

_cache: OrderedDict[str, Metadata] = OrderedDict()
_cache_lock = threading.Lock()


@dataclass(frozen=True)
class Metadata:
    """The derived facts of one commit."""

    card: dict[str, Any]
    config: dict[str, Any] | None
    tags: list[str]
    pipeline_tag: str | None
    library_name: str | None
    safetensors: dict[str, Any] | None


def of(store: BlobStore, connection: sqlite3.Connection, repo: Repo, commit: Commit) -> Metadata:
    """Return the metadata of a commit of `repo`."""
    with _cache_lock:
        if known := _cache.get(commit.oid):
            _cache.move_to_end(commit.oid)
            return known
    files = history.entries(connection, commit.id)
    found = _compute(store, repo, files)
    with _cache_lock:
        _cache[commit.oid] = found
        while len(_cache) > _CACHED:
            _cache.popitem(last=False)
    return found


def read_text(store: BlobStore, file: Entry | None) -> str | None:
    """Return a small text file's content, or None if it is absent, large or not UTF-8."""
    if file is None or file.size > _READABLE:
        return None
    try:
        return store.path(file.sha256).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None


def _compute(store: BlobStore, repo: Repo, files: dict[str, Entry]) -> Metadata:
    try:
        card = cards.front_matter(read_text(store, files.get("README.md")) or "") or {}
    except BadRequestError:
        card = {}
    config = _summary(_json(read_text(store, files.get("config.json"))))
    pipeline_tag, library_name = tags.task(card, config), tags.library(card)
    return Metadata(
        card,
        config,
        tags.compute(repo.type, card, config, files, pipeline_tag, library_name),
        pipeline_tag,
        library_name,
        _parameters(store, files),
    )


def _json(text: str | None) -> dict[str, Any] | None:
    try:
        value = cards.plain(json.loads(text)) if text else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _summary(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """Keep of config.json what the Hub shows: which classes load the model, and how it is quantized."""
    if config is None:
        return None
    shown = ("architectures", "model_type", "auto_map", "quantization_config")
    return {key: config[key] for key in shown if key in config}


def _parameters(store: BlobStore, files: dict[str, Entry]) -> dict[str, Any] | None:
    """Count the parameters by type, from the headers of the safetensors files at the root."""
    weights = [file for path, file in files.items() if path.endswith(".safetensors") and "/" not in path]
    counts: dict[str, int] = {}
    for file in weights[:_MAX_HEADERS]:
        for kind, count in _header_counts(store, file).items():
            counts[kind] = counts.get(kind, 0) + count
    return {"parameters": counts, "total": sum(counts.values())} if counts else None


def _header_counts(store: BlobStore, file: Entry) -> dict[str, int]:
    """Read one safetensors header: u64 length, then JSON of name -> {dtype, shape, data_offsets}."""
    with open(store.path(file.sha256), "rb") as source:
        start = source.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header = source.read(length) if 0 < length <= _READABLE else b""
    counts: dict[str, int] = {}
    tensors = _json(header.decode("utf-8", "replace")) or {}
    for name, tensor in tensors.items():
        if name == "__metadata__" or not isinstance(tensor, dict):
            continue
        shape, kind = tensor.get("shape"), tensor.get("dtype")
        if not isinstance(kind, str) or not isinstance(shape, list):
            continue
        size = 1
        for extent in shape:
            size *= extent if isinstance(extent, int) and 0 <= extent < 2**48 else 0
        counts[kind] = counts.get(kind, 0) + min(size, 2**62)
    return counts
