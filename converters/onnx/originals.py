"""The source's own small files, which every folder carries: byte for byte, as a re-saved tokenizer is another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_ORIGINALS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.jinja",
    "LICENSE*",
    "NOTICE*",
)


def copy_originals(source: Path, folder: Path) -> None:
    """Copy what there is of them, and settle where the chat template is read from."""
    for pattern in _ORIGINALS:
        for file in source.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    if (folder / "tokenizer_config.json").is_file():
        _settle_template(folder / "tokenizer_config.json", folder / "chat_template.jinja")


def _settle_template(config: Path, template: Path) -> None:
    """Let `chat_template.jinja` be what is used, as in transformers.

    ONNX Runtime GenAI prefers the one inside `tokenizer_config.json`, and cannot load a list of named ones. Where the
    two say the same, nothing is touched.
    """
    fields = json.loads(config.read_text(encoding="utf-8"))
    inner = fields.pop("chat_template", None)
    default = (
        {entry["name"]: entry["template"] for entry in inner}.get("default") if isinstance(inner, list) else inner
    )
    if default and not template.exists():
        template.write_text(default, encoding="utf-8")
    if inner is not None and (not template.exists() or template.read_text(encoding="utf-8") != inner):
        config.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
