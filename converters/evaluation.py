"""Measures an artifact loaded in its own runtime against the reference. The same figures for every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from converters import outliers
from converters.base import ConverterError, EvaluateRequest, Events
from converters.logprobs import NOT_FINITE, Comparison, Reader, Writer
from converters.prompts import NEW_TOKENS, common_prefix


class Runtime(AbstractContextManager["Runtime"], Protocol):
    """A loaded artifact, as its own runtime runs it."""

    vocabulary: int

    def logits(self, ids: Sequence[int]) -> Any:
        """Run a sequence from a clean state; [len(ids), vocabulary], valid until the next call."""

    def greedy(self, ids: Sequence[int], limit: int) -> tuple[list[int], bool]:
        """Continue with the most likely token until an end token (not kept; then True) or the limit."""

    def tokenize(self, text: str) -> list[int]:
        """Text to ids with the artifact's own tokenizer, special tokens parsed and none added."""

    def detokenize(self, ids: Sequence[int]) -> str: ...

    def end_tokens(self) -> list[int]:
        """The ids at which the runtime stops by itself, as the artifact's own files tell it to."""


def measure(
    load: Callable[[int], Runtime],
    request: EvaluateRequest,
    events: Events,
    weights: Callable[[Path], outliers.Find],
) -> None:
    """Measure, optionally keep the artifact's own log-probabilities, and report once.

    `load` opens the artifact for texts of up to so many tokens. That is within the source's original context, where
    a runtime that chooses LongRoPE's factors chooses the short ones, as the source does. `weights` opens its weights,
    to be compared with the source's.
    """
    # Before the runtime is loaded, so that the memory of both is never held at once.
    source = request.source
    compared = outliers.report(source, weights(source), events) if source else None
    reference = Reader(request.reference)
    extra = reference.meta.extra
    length = max(len(p["ids"]) + NEW_TOKENS for p in extra["prompts"])
    length = max(length, *(len(ids) for ids in reference.meta.sequences))
    with load(min(length, extra["short_context"])) as runtime:
        if runtime.vocabulary < reference.meta.vocabulary:
            raise ConverterError(f"The file has {runtime.vocabulary} tokens, its source {reference.meta.vocabulary}.")
        values = _compare(runtime, reference, request, events)
        values["weights"] = compared
        values["samples"] = _samples(runtime, extra["prompts"], extra["short_context"], events)
        values["tokenizer_agrees"] = all(runtime.tokenize(p["text"]) == p["ids"] for p in extra["probes"])
        mine = runtime.end_tokens()
        values["same_end_tokens"] = same_end_tokens(mine, extra)
    details = {"end_tokens": mine, "source_end_tokens": extra["end_tokens"]}
    events.emit("metrics", values=values, details=details)


def same_end_tokens(mine: list[int], extra: dict[str, Any]) -> bool:
    """Whether the runtime stops where the source's turns end, and never within ordinary text.

    llama.cpp also stops at markers it knows by name, such as the `</s>` that every SentencePiece vocabulary
    has; the source never writes those, so an extra marker does no harm, while an extra piece of text would
    cut answers short.
    """
    allowed = {*extra["end_tokens"], *extra["marker_tokens"]}
    return set(extra["turn_end_tokens"]) <= set(mine) <= allowed


class _NotFiniteError(Exception):
    """The variant's logits hold NaN or infinity; nothing more can be learnt from it."""


def _compare(runtime: Runtime, reference: Reader, request: EvaluateRequest, events: Events) -> dict[str, Any]:
    shape = {"windows": reference.meta.windows, "window_tokens": len(reference.meta.sequences[0])}
    try:
        return {**_divergence(runtime, reference, request, events), **shape, "finite": True}
    except _NotFiniteError:
        baseline = NOT_FINITE if request.baseline else None
        worst = {"kl_mean": NOT_FINITE, "kl_p99": NOT_FINITE, "top1": 0.0, "perplexity_ratio": NOT_FINITE}
        return {**worst, **shape, "baseline_kl_mean": baseline, "chat_kl_mean": NOT_FINITE, "finite": False}


def _divergence(runtime: Runtime, reference: Reader, request: EvaluateRequest, events: Events) -> dict[str, Any]:
    meta = reference.meta
    text, chat = Comparison(reference), Comparison(reference)
    baseline = Comparison(Reader(request.baseline)) if request.baseline else None
    if baseline is not None and baseline.reader.meta.sequences != meta.sequences:
        raise ConverterError("The baseline was measured on another reference.", "Measure the baseline again.")
    writer = Writer(request.save_baseline, replace(meta, extra={})) if request.save_baseline else None
    for at, ids in enumerate(meta.sequences):
        logits = runtime.logits(ids)[:, : meta.vocabulary]
        if not np.isfinite(logits).all():
            raise _NotFiniteError
        (text if at < meta.windows else chat).add(at, logits)
        if baseline is not None and at < meta.windows:
            baseline.add(at, logits)
        if writer is not None:
            writer.add(ids, logits)
        events.progress("compare", at + 1, len(meta.sequences), "sequences")
    if writer is not None:
        writer.close()
    against = baseline.kl_mean if baseline is not None else None
    return {**text.summary(), "baseline_kl_mean": against, "chat_kl_mean": chat.kl_mean}


def _samples(runtime: Runtime, prompts: list[dict[str, Any]], limit: int, events: Events) -> list[dict[str, Any]]:
    samples = []
    for at, prompt in enumerate(prompts):
        made, stopped = runtime.greedy(prompt["ids"], min(NEW_TOKENS, limit - 1 - len(prompt["ids"])))
        samples.append(
            {
                "prompt": prompt["prompt"],
                "source": prompt["text"],
                "variant": runtime.detokenize(made),
                "common_prefix": common_prefix(prompt["answer"], made),
                "source_stopped": prompt["stopped"],
                "variant_stopped": stopped,
            }
        )
        events.progress("answer prompts", at + 1, len(prompts), "prompts")
    return samples
