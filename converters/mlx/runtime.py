"""mlx-lm with an artifact loaded: logits, greedy continuation, its own tokenizer and end tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from converters.mlx.products import replace_products

_ROWS = 1024  # positions that run together


class Runtime:
    """One loaded artifact, in the folder of its first file.

    `expected` are the sequences that will be asked for. They run some at a time, padded to one length, because MLX
    dequantizes every weight for every pass; a causal model does not see what lies behind.
    """

    def __init__(self, file: Path, expected: Sequence[tuple[int, ...]] = ()) -> None:
        self._model, self._tokenizer = mlx_lm.load(str(file.parent), lazy=True)
        replace_products(self._model, sorted(file.parent.glob("model*.safetensors")))
        self.vocabulary = int(self._model.args.vocab_size)
        self._words = 1 + max(self._tokenizer.get_vocab().values())
        self._expected = list(expected)
        self._ready: dict[tuple[int, ...], Any] = {}
        self._best: dict[tuple[int, ...], list[int]] = {}

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ready.clear()

    def logits(self, ids: Sequence[int]) -> Any:
        """Run a sequence from a clean state; [len(ids), vocabulary], valid until the next call."""
        key = tuple(ids)
        if key not in self._ready:
            self._run(self._together(key))
        values = np.array(self._ready.pop(key).astype(mx.float32))
        self._best[key] = [int(token) for token in values.argmax(axis=-1)]
        return values

    def greedy(self, ids: Sequence[int], limit: int) -> tuple[list[int], bool]:
        """Continue with the most likely token until an end token (not kept; then True) or the limit.

        A sequence that begins with `ids` and has run already holds the source's answer: as long as this model wants
        the same tokens, they need not be made again.
        """
        made = self._agreed(tuple(ids), limit)
        end = set(self.end_tokens())
        cache = make_prompt_cache(self._model)
        step = [*ids, *made]
        while len(made) < limit:
            token = int(self._model(mx.array([step]), cache=cache)[0, -1].argmax())
            if token in end:
                return made, True
            made.append(token)
            step = [token]
        return made, False

    def tokenize(self, text: str) -> list[int]:
        """Text to ids, with special tokens parsed and none added."""
        return [int(i) for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text with the streaming detokenizer that mlx-lm prints answers with.

        A model's vocabulary may be padded beyond its tokenizer's. Such an id stands for no text, as in transformers;
        mlx-lm's detokenizer would fail at it.
        """
        words = self._tokenizer.detokenizer
        for token in ids:
            if token < self._words:
                words.add_token(token)
        words.finalize()
        return str(words.text)

    def end_tokens(self) -> list[int]:
        """The ids that `mlx_lm.generate` stops at."""
        return sorted(int(i) for i in self._tokenizer.eos_token_ids)

    def _together(self, key: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The sequence asked for and those that come after it, up to `_ROWS` positions."""
        start = self._expected.index(key) if key in self._expected else None
        group = [key] if start is None else self._expected[start:]
        while len(group) > 1 and len(group) * max(map(len, group)) > _ROWS:
            group.pop()
        return group

    def _run(self, group: list[tuple[int, ...]]) -> None:
        self._ready.clear()
        length = max(map(len, group))
        batch = mx.array([[*ids, *[0] * (length - len(ids))] for ids in group])
        logits = self._model(batch)
        self._ready = {ids: logits[at, : len(ids)] for at, ids in enumerate(group)}

    def _agreed(self, ids: tuple[int, ...], limit: int) -> list[int]:
        for key, best in self._best.items():
            if key[: len(ids)] == ids and len(key) > len(ids):
                answer = key[len(ids) :]
                wanted = best[len(ids) - 1 : -1]
                same = [a == b for a, b in zip(answer, wanted, strict=True)]
                return list(answer[: [*same, False].index(False)][:limit])
        return []
