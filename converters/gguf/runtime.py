"""llama.cpp through ctypes: load a GGUF, get logits, tokenize, continue greedily. CPU only."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from converters.base import ConverterError

_WARN, _ERROR = 3, 4
_FLASH_ATTENTION_OFF = 0


class Log:
    """Receives llama.cpp's log lines; keeps the last error, hands every line to `listen`."""

    def __init__(self, listen: Any = None) -> None:
        self.last_error = ""
        self._listen = listen
        self._callback = llama_cpp.llama_log_callback(self._receive)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _data: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == _ERROR and line:
            self.last_error = line
        if self._listen is not None:
            self._listen(level, line)


class Runtime:
    """One loaded model with a context of `length` tokens, every position of which gives logits.

    Flash attention is off so that results do not depend on how work is split among threads. `on_node`, if
    given, is called as (tensor pointer, ask) around every graph node.
    """

    def __init__(self, path: Path, length: int, threads: int, on_node: Any = None) -> None:
        self._log = Log()
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        if not model:
            raise ConverterError(f"llama.cpp cannot load {path.name}: {self._log.last_error or 'no reason given'}")
        self._model = model
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = length
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = _FLASH_ATTENTION_OFF
        if on_node is not None:
            self._on_node = llama_cpp.llama_cpp.ggml_backend_sched_eval_callback(on_node)
            params.cb_eval = self._on_node
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise ConverterError(f"llama.cpp cannot make a context for {path.name}: {self._log.last_error}")
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._batch = llama_cpp.llama_batch_init(length, 0, 1)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def logits(self, ids: Sequence[int]) -> Any:
        """Run a sequence from a clean state; return [len(ids), vocabulary], valid until the next call."""
        self._forget()
        self._decode(ids, 0, every=True)
        pointer = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(len(ids), self.vocabulary))

    def greedy(self, ids: Sequence[int], limit: int) -> tuple[list[int], bool]:
        """Continue with the most likely token until an end-of-generation token (not kept) or the limit."""
        self._forget()
        made: list[int] = []
        step: Sequence[int] = ids
        at = 0
        while len(made) < limit:
            self._decode(step, at, every=False)
            at += len(step)
            pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
            token = int(np.ctypeslib.as_array(pointer, shape=(self.vocabulary,)).argmax())
            if llama_cpp.llama_vocab_is_eog(self._vocab, token):
                return made, True
            made.append(token)
            step = [token]
        return made, False

    def tokenize(self, text: str) -> list[int]:
        """Text to ids, with special tokens parsed and none added."""
        raw = text.encode("utf-8")
        room = len(raw) + 16
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), buffer, room, False, True)
        if count < 0:
            raise ConverterError("llama.cpp could not tokenize the evaluation text.")
        return list(buffer[:count])

    def detokenize(self, ids: Sequence[int]) -> str:
        room = 64 * (len(ids) + 1)
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        buffer = ctypes.create_string_buffer(room)
        count = llama_cpp.llama_detokenize(self._vocab, tokens, len(ids), buffer, room, True, False)
        return buffer.raw[: max(count, 0)].decode("utf-8", "replace")

    def end_tokens(self) -> list[int]:
        return [i for i in range(self.vocabulary) if llama_cpp.llama_vocab_is_eog(self._vocab, i)]

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _decode(self, ids: Sequence[int], start: int, *, every: bool) -> None:
        batch = self._batch
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at] = token
            batch.pos[at] = start + at
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = 0
            batch.logits[at] = every or at == len(ids) - 1
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise ConverterError(f"llama.cpp failed to run the model: {self._log.last_error}")
