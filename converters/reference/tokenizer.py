"""The source's own tokenizer and chat template, as transformers reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig

from converters.chat import render


class SourceTokenizer:
    """Text to ids and back, without added special tokens."""

    def __init__(self, source: Path, config: Any) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        ids = {*_ids(config.eos_token_id), *_ids(self._tokenizer.eos_token_id)}
        if (source / "generation_config.json").is_file():
            ids |= {*_ids(GenerationConfig.from_pretrained(source).eos_token_id)}
        self.end_tokens = sorted(ids)

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def chat(self, prompt: str) -> tuple[str, list[int]]:
        """Render one user turn with the model's template; a base model without one gets the plain text."""
        text = prompt
        if self._tokenizer.chat_template:
            text = render(self._tokenizer, [{"role": "user", "content": prompt}], ask=True)
        return text, self.encode(text)

    def turn_end_tokens(self) -> list[int]:
        """The end tokens a runtime must know: the tokenizer's own, and those the template writes."""
        needed = {*_ids(self._tokenizer.eos_token_id)}
        if self._tokenizer.chat_template:
            messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            needed |= set(self.encode(render(self._tokenizer, messages, ask=False)))
        return sorted(needed & set(self.end_tokens))

    def marker_tokens(self) -> list[int]:
        """The tokens that stand for structure and not for text."""
        return sorted({*self._tokenizer.added_tokens_decoder, *self._tokenizer.all_special_ids})


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
