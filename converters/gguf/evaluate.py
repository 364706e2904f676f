"""Loads an artifact in llama.cpp and measures how far it is from the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from converters.base import ConverterError, EvaluateRequest, Events
from converters.gguf.runtime import Runtime
from converters.logprobs import NOT_FINITE, Comparison, Reader, Writer
from converters.prompts import NEW_TOKENS, common_prefix


def evaluate(request: EvaluateRequest, events: Events) -> None:
    """Measure, optionally keep the artifact's own log-probabilities, and report once."""
    reference = Reader(request.reference)
    extra = reference.meta.extra
    # One context holds every sequence and is within the source's original context, so that llama.cpp, which
    # picks LongRoPE's factors by the size of the context, picks the short ones as the source does.
    length = max(len(p["ids"]) + NEW_TOKENS for p in extra["prompts"])
    length = max(length, *(len(ids) for ids in reference.meta.sequences))
    with Runtime(request.artifact, min(length, extra["short_context"]), request.threads) as runtime:
        if runtime.vocabulary < reference.meta.vocabulary:
            raise ConverterError(f"The file has {runtime.vocabulary} tokens, its source {reference.meta.vocabulary}.")
        values = _compare(runtime, reference, request, events)
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
