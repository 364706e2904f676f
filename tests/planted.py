"""A model that computes what another does, and in which one matrix suffers more from being quantized than it should.

A column of `down_proj` is multiplied by a power of two, and the row of `up_proj` that feeds it divided by it: in
floating point every answer stays the same. Quantized, the large column takes the other columns of its block with it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

LAYER, EVERY, FACTOR = 3, 32, 32
PLANTED = f"model.layers.{LAYER}.mlp.down_proj.weight"


def plant(model: Path, folder: Path) -> Path:
    """A copy of a Phi-3 in bfloat16 with that done to every block of one layer."""
    shutil.copytree(model, folder)
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])

    def scale(name: str, which: tuple[slice, slice], factor: float) -> None:
        start, stop = (8 + length + offset for offset in header[name]["data_offsets"])
        bits = np.frombuffer(raw[start:stop], "<u2").reshape(header[name]["shape"])
        values = (bits.astype("<u4") << 16).view("<f4").copy()
        values[which] *= factor
        raw[start:stop] = (values.view("<u4") >> 16).astype("<u2").tobytes()

    inner = header[PLANTED]["shape"][1]
    scale(PLANTED, np.s_[:, ::EVERY], FACTOR)
    scale(PLANTED.replace("down_proj", "gate_up_proj"), np.s_[inner::EVERY, :], 1 / FACTOR)
    file.write_bytes(raw)
    return folder
