"""Which weights keep 8 bits, and which pieces of text calibrate the rest. No OpenVINO in here.

Measured on the tiny Phi, INT4 GPTQ with all else equal: the first block's attention projections alone cause more than
half of the whole divergence, and with the projections of all blocks and the outermost blocks at 8 bits it falls to a
fifth. NNCF's own choice by `ratio` did not find them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_PIECE = 1000  # characters


def pieces(text: str) -> list[str]:
    """Cut the calibration text into equal pieces; what is left over at the end is not used."""
    return [text[at : at + _PIECE] for at in range(0, len(text) - _PIECE + 1, _PIECE)]


def count_blocks(names: Iterable[str]) -> int:
    """How many decoder blocks the nodes of a graph belong to."""
    return 1 + max((int(found[1]) for name in names if (found := re.search(r"\.layers\.(\d+)\.", name))), default=-1)


def all_but_int8(blocks: int, projections: Iterable[str], share: int) -> str:
    """A pattern for every node but those kept at 8 bits.

    These are the `projections` of every block, and all of the first and the last 1/`share` of the blocks. A weight's
    node is named `self.model.layers.0.self_attn.qkv_proj._openvino_orig_weight`, and the node that multiplies with it
    `__module.model.layers.0.self_attn.qkv_proj/ov_ext::linear/MatMul`; NNCF leaves a weight out if either matches.
    """
    edge = math.ceil(blocks / share)
    outer = sorted({*range(edge), *range(blocks - edge, blocks)})
    kept = rf"\.(?:{'|'.join(projections)})\b|\.layers\.(?:{'|'.join(map(str, outer))})\."
    return rf"^(?!.*(?:{kept})).*$"
