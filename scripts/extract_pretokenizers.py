"""Extract what llama.cpp's converter knows about byte-level BPE tokenizers to
`converters/gguf/pretokenizers.json`.

    <python of the gguf toolchain> scripts/extract_pretokenizers.py [--check]

The converter encodes a probe text and looks the sha256 of `str(ids)` up in a chain of comparisons
(`TextModel.get_vocab_base_pre`). A tokenizer that is not in it cannot be converted; with this table that is
known from tokenizer.json alone, before any weights are downloaded. The source is parsed, not imported.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "converters" / "gguf" / "pretokenizers.json"


def converter_source() -> str:
    spec = importlib.util.find_spec("conversion")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("Run this with the gguf toolchain's Python: it has no `conversion` package.")
    return (Path(next(iter(spec.submodule_search_locations))) / "base.py").read_text(encoding="utf-8")


def extract(source: str) -> dict[str, object]:
    """Find the probe text and the known hashes in the converter's `get_vocab_base_pre`."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    (body,) = [f for f in functions if f.name == "get_vocab_base_pre"]
    probe, hashes = "", {}
    for node in ast.walk(body):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "chktxt":
            probe = ast.literal_eval(node.value)
        if isinstance(node, ast.If) and ast.unparse(node.test).startswith("chkhsh =="):
            assert isinstance(node.test, ast.Compare)
            names = [n.value for n in node.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "res"]
            hashes[ast.literal_eval(node.test.comparators[0])] = ast.literal_eval(names[0])
    return {"probe_text": probe, "hashes": dict(sorted(hashes.items()))}


def main() -> None:
    text = json.dumps(extract(converter_source()), indent=1, ensure_ascii=True) + "\n"
    if "--check" in sys.argv:
        if TARGET.read_text(encoding="utf-8") != text:
            raise SystemExit("pretokenizers.json is not what the pinned converter knows; run this script.")
        return
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
