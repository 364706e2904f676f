"""ONNX Runtime GenAI on the CPU: load a folder, get logits, tokenize, continue greedily.

Folders for a GPU are run too: their graph holds the same quantized weights, and the CPU provider has a kernel for each
of its operators. What that does not show is whether the GPU's kernels are right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

from converters.base import ConverterError


class Runtime:
    """One loaded model for texts of up to `length` tokens, every position of which gives logits."""

    def __init__(self, folder: Path, length: int, threads: int) -> None:
        session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1, "session.intra_op.allow_spinning": "0"}
        try:
            config = og.Config(str(folder))
            config.clear_providers()
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            self._model = og.Model(config)
            self._tokenizer = og.Tokenizer(self._model)
        except RuntimeError as error:
            raise ConverterError(f"ONNX Runtime GenAI cannot load {folder.name}: {str(error)[:300]}") from error
        self._length = length
        written = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        self.vocabulary = int(written["model"]["vocab_size"])

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_exc: object) -> None:
        del self._model, self._tokenizer

    def logits(self, ids: Sequence[int]) -> Any:
        """Run a sequence from a clean state; return [len(ids), vocabulary] at float32."""
        generator = self._generator(ids)
        return generator.get_output("logits")[0].astype(np.float32)

    def greedy(self, ids: Sequence[int], limit: int) -> tuple[list[int], bool]:
        """Continue with the most likely token until an end token (not kept) or the limit."""
        generator = self._generator(ids)
        ends = set(self.end_tokens())
        made: list[int] = []
        while len(made) < limit:
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            if token in ends:
                return made, True
            made.append(token)
        return made, False

    def tokenize(self, text: str) -> list[int]:
        """Text to ids, with special tokens parsed and none added."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def detokenize(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(np.array(ids, dtype=np.int32)))

    def end_tokens(self) -> list[int]:
        """What `is_done` looks for, as the runtime read it from `genai_config.json`."""
        return sorted(int(token) for token in self._tokenizer.eos_token_ids)

    def _generator(self, ids: Sequence[int]) -> Any:
        params = og.GeneratorParams(self._model)
        # The default is the whole context, and the memory for its keys and values is taken at once.
        params.set_search_options(max_length=self._length + 1, do_sample=False, repetition_penalty=1.0)
        generator = og.Generator(self._model, params)
        generator.append_tokens(np.array([ids], dtype=np.int32))
        return generator
