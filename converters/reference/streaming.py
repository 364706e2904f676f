"""Float32 arithmetic for models that do not fit in memory at float32.

The weights stay in their own type (bfloat16 or float16) and one block at a time is widened while it runs.
Widening is exact, so the result is the one of a float32 model.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import torch

_HEADROOM = 0.7
_UNKNOWN = 1 << 62


def fits_in_memory(needed: int, budget: int = 0) -> bool:
    """Whether so many bytes leave room for the rest in what this process may still take. 0: no budget is known."""
    return needed < _HEADROOM * min(_available(), _cgroup_left(), _own_limit(), budget or _UNKNOWN)


def stream_layers(model: Any) -> None:
    """Widen each leaf-most group of weights just before it runs and put it back after.

    Decoder layers, embeddings, the last norm and the head are the groups; the residual stream is float32
    because the embedding already is when it is looked up.
    """
    base = model.base_model
    groups = [*base.layers, *(child for child in base.children() if child is not base.layers)]
    head = model.get_output_embeddings()
    if head is not None:
        groups.append(head)
    for group in groups:
        group.register_forward_pre_hook(_widen)
        group.register_forward_hook(_restore, always_call=True)


def _widen(module: Any, _inputs: Any) -> None:
    for parameter in module.parameters():
        parameter.original = parameter.data
        parameter.data = parameter.data.to(torch.float32)


def _restore(module: Any, _inputs: Any, _output: Any) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.__dict__.pop("original")


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        # Not Linux, or a sandbox without /proc: what there is in all is the best that can be known.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _own_limit() -> int:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return _UNKNOWN if limit == resource.RLIM_INFINITY else limit


def _cgroup_left() -> int:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _UNKNOWN
    return _UNKNOWN if limit == "max" else int(limit) - used
