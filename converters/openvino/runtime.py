"""OpenVINO on the CPU: load an artifact's models, get logits, tokenize, continue greedily.

The model is run with OpenVINO alone, its tokenizer and its generation settings are read by OpenVINO GenAI: what
`openvino_genai.LLMPipeline` does, with the logits of every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from converters.openvino import ir, tokenizer

# By default the CPU may multiply in bfloat16, keep keys and values in 8 bits and quantize activations: faster, and
# different from machine to machine. What is measured is the model.
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


class Runtime:
    """One loaded artifact."""

    def __init__(self, folder: Path, threads: int) -> None:
        core = openvino.Core()
        properties = {**EXACT, "INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(core.read_model(folder / ir.XML), "CPU", properties)
        self._inputs = {name for port in compiled.inputs for name in port.get_names()}
        self.vocabulary = int(compiled.output(0).get_partial_shape()[2].get_length())
        self._request = compiled.create_infer_request()
        self._tokenizer = tokenizer.load(folder, threads)
        settings = folder / "generation_config.json"
        self._settings = openvino_genai.GenerationConfig(settings) if settings.is_file() else None

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_exc: object) -> None:
        del self._request

    def logits(self, ids: Sequence[int]) -> Any:
        """Run a sequence from a clean state; return [len(ids), vocabulary], valid until the next call."""
        self._request.reset_state()
        return self._run(ids, 0)

    def greedy(self, ids: Sequence[int], limit: int) -> tuple[list[int], bool]:
        """Continue with the most likely token until an end token (not kept) or the limit."""
        end = set(self.end_tokens())
        made: list[int] = []
        self._request.reset_state()
        step: Sequence[int] = ids
        at = 0
        while len(made) < limit:
            token = int(self._run(step, at)[-1].argmax())
            at += len(step)
            if token in end:
                return made, True
            made.append(token)
            step = [token]
        return made, False

    def tokenize(self, text: str) -> list[int]:
        """Text to ids, with special tokens parsed and none added."""
        return tokenizer.encode(self._tokenizer, text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def end_tokens(self) -> list[int]:
        """The ids at which OpenVINO GenAI stops: those of `generation_config.json`, else the tokenizer's."""
        ids = set() if self._settings is None else {*self._settings.stop_token_ids, self._settings.eos_token_id}
        return sorted(i for i in ids if i >= 0) or [int(self._tokenizer.get_eos_token_id())]

    def _run(self, ids: Sequence[int], start: int) -> Any:
        """Feed the ids that follow the `start` ones the state already holds; return their logits."""
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, start + len(ids)), dtype=np.int64),
            "position_ids": np.arange(start, start + len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self._request.infer({name: value for name, value in feed.items() if name in self._inputs})
        return self._request.get_output_tensor(0).data[0]
