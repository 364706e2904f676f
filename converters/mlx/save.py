"""Writes a model's weights as mlx-lm does, with progress and without ever leaving half a file under its name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import get_total_parameters, make_shards

from converters.base import Events
from converters.files import sync, write_json

INDEX = "model.safetensors.index.json"
_SHARD = 2  # GiB: what is held in memory while a model is written


def save_weights(model: Any, out: Path, events: Events) -> list[str]:
    """Write the weights and their index to `out`; give the weight files' names in order.

    Arrays are made when they are written, and the model loses them, so that one shard is in memory at a time.
    """
    arrays = dict(tree_flatten(model.parameters()))
    parameters, total = get_total_parameters(model), sum(array.nbytes for array in arrays.values())
    shards = make_shards(arrays, _SHARD)
    model.update(tree_map(lambda _: mx.array([]), model.parameters()))
    arrays.clear()
    names = [_name(at, len(shards)) for at in range(len(shards))]
    where: dict[str, str] = {}
    done = 0
    for at, name in enumerate(names):
        shard, shards[at] = shards[at], {}
        where |= dict.fromkeys(shard, name)
        for array in shard.values():
            mx.eval(array)
            done += array.nbytes
            events.progress("convert", done, total, "bytes")
        _save(shard, out / name)
    index = {"metadata": {"total_size": total, "total_parameters": parameters}, "weight_map": where}
    write_json(out / INDEX, index)
    return names


def _name(at: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{at + 1:05d}-of-{count:05d}.safetensors"


def _save(shard: dict[str, Any], path: Path) -> None:
    """As `files.complete_file`, but MLX writes to no name that does not end in `.safetensors`."""
    folder = path.parent / ".partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    mx.save_safetensors(str(folder / path.name), shard, metadata={"format": "mlx"})
    sync(folder / path.name)
    os.replace(folder / path.name, path)
    folder.rmdir()
    sync(path.parent)
