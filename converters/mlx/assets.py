"""What lies beside the weights in a source and belongs beside them in an artifact, byte for byte.

Tokenizer files that a newer transformers saved again are not always read by an older one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from converters.files import complete_file

_RUNS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "*.jinja",
)
_BESIDE = ("LICENSE*", "NOTICE*")


def copy(source: Path, out: Path) -> tuple[list[str], list[str]]:
    """Copy what the model needs to run, and its licence; give both lists of names."""
    return _copy(source, out, _RUNS), _copy(source, out, _BESIDE)


def _copy(source: Path, out: Path, patterns: tuple[str, ...]) -> list[str]:
    files = sorted({file for pattern in patterns for file in source.glob(pattern) if file.is_file()})
    for file in files:
        with complete_file(out / file.name) as partial:
            shutil.copyfile(file, partial)
    return [file.name for file in files]
