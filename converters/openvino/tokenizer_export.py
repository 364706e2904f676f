"""The tokenizer as OpenVINO models: made from the source's own, and compared with it before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
from openvino_tokenizers import convert_tokenizer
from transformers import AutoTokenizer

from converters.base import Events
from converters.chat import render
from converters.openvino import tokenizer
from converters.prompts import PROMPTS

TOKENIZER, DETOKENIZER = "openvino_tokenizer.xml", "openvino_detokenizer.xml"
_HARD_TEXTS = (
    "Two  spaces,   three,\ttabs\t\tand\n\nblank\r\nlines \n at the end. \n",
    "Zürich, naïve, Ωμέγα, привет, 你好，世界, ﬁ, e\u0301, \U0001f600 \U0001f469\u200d\U0001f4bb",
    "def f(x):\n    return x**2  # 12345.678 + 1e-9 == 0x1F\n",
    "It's 3.14; they'll SAY \"DON'T\" -- <b>&amp;</b> [x]{y}|z|~`^\\",
    "",
    " ",
)


def make(source: Path, folder: Path, threads: int, events: Events) -> None:
    """Write tokenizer and detokenizer to `folder`, and say so where the source gives other tokens for a probe.

    SentencePiece, GPT-2, cl100k and o200k vocabularies came out right for every probe.
    """
    original = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    # Prompts of a batch end together, as generation needs it.
    original.padding_side = original.truncation_side = "left"
    models = convert_tokenizer(original, with_detokenizer=True)
    for model, name in zip(models, (TOKENIZER, DETOKENIZER), strict=True):
        openvino.save_model(model, folder / name)
    made = tokenizer.load(folder, threads)
    for text in _probes(original):
        if tokenizer.encode(made, text) != _ids(original, text):
            events.log("warning", f"OpenVINO's tokenizer differs from the source's on {text[:200]!r}.")


def _probes(original: Any) -> list[str]:
    """Texts that tell tokenizers apart: hard ones, every special token between words, and whole conversations."""
    specials = "".join(f"{token} a{token}b" for token in sorted(original.get_added_vocab()))
    probes = [*_HARD_TEXTS, specials]
    if original.chat_template:
        turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
        turns.append([*turns[0], {"role": "assistant", "content": "Paris."}, *turns[1]])
        probes += [render(original, conversation, ask=True) for conversation in turns]
    return probes


def _ids(original: Any, text: str) -> list[int]:
    return [int(i) for i in original.encode(text, add_special_tokens=False)]
