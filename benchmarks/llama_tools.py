"""Stands in for the llama.cpp tools that its Python wheel lacks: `quantize` and `imatrix`, on every core as they do.

Runs in the backend's environment. llama.cpp does the work in both; what Python adds is its start, half a second. The
calibration has the original's result, by the mill's own collector.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from converters.base import Events
from converters.gguf import imatrix
from converters.gguf.quantize import quantize


def main() -> None:
    parser = argparse.ArgumentParser()
    tools = parser.add_subparsers(dest="tool", required=True)
    _quantize_arguments(tools.add_parser("quantize"))
    _imatrix_arguments(tools.add_parser("imatrix"))
    given = parser.parse_args()
    threads, events = os.cpu_count() or 1, Events(sys.stdout)
    if given.tool == "imatrix":
        imatrix.collect(given.model, given.text, given.out, threads, events)
    else:
        quantize(given.base, given.target, _options(given), given.imatrix, "calibration.txt", threads, events)


def _quantize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--token-embedding-type")
    parser.add_argument("--output-tensor-type")
    parser.add_argument("--tensor-type", action="append", default=[])
    parser.add_argument("base", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("type")


def _imatrix_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", dest="model", type=Path, required=True)
    parser.add_argument("-f", dest="text", type=Path, required=True)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("-c", dest="context", type=int)


def _options(given: argparse.Namespace) -> dict[str, Any]:
    pairs = [pair.partition("=") for pair in given.tensor_type]
    found = {
        "type": given.type,
        "embedding_type": given.token_embedding_type and given.token_embedding_type.upper(),
        "output_type": given.output_tensor_type and given.output_tensor_type.upper(),
        "tensor_types": {name: kind.upper() for name, _, kind in pairs},
    }
    return {name: value for name, value in found.items() if value}


if __name__ == "__main__":
    main()
