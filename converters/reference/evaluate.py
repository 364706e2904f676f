"""Runs the source in PyTorch at float32 and keeps the log-probabilities variants are measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from converters import weights
from converters.base import Events, ReferenceRequest
from converters.logprobs import Meta, Reader, Writer
from converters.prompts import NEW_TOKENS, PROMPTS
from converters.reference.streaming import fits_in_memory, stream_layers
from converters.reference.tokenizer import SourceTokenizer

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def architectures() -> list[str]:
    """Name the causal language models of the Phi family that transformers runs without remote code."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    return sorted({name for name in NAMES.values() if isinstance(name, str) and name.startswith("Phi")})


def evaluate(request: ReferenceRequest, events: Events) -> None:
    """Write the reference folder. It is complete when its `meta.json` is there."""
    torch.set_num_threads(request.threads)
    found = weights.survey(request.source, lambda done, total: events.progress("check weights", done, total, "bytes"))
    config = AutoConfig.from_pretrained(request.source, trust_remote_code=False)
    tokenizer = SourceTokenizer(request.source, config)
    model = load(request.source, found.parameters, request.memory)
    limit = short_context(config)
    text = " ".join(request.text.read_text(encoding="utf-8").split("\n"))
    text_ids = tokenizer.encode(text)
    windows = cut(text_ids, request.windows, min(request.window_tokens, limit - 1))
    prompts = [tokenizer.chat(prompt) for prompt in PROMPTS]
    answers = []
    for at, (_, ids) in enumerate(prompts):
        answers.append(greedy(model, ids, tokenizer.end_tokens, min(NEW_TOKENS, limit - 1 - len(ids))))
        events.progress("answer prompts", at + 1, len(prompts), "prompts")
    extra = _extra(tokenizer, text, text_ids, prompts, answers) | {"short_context": limit}
    meta = Meta(
        vocabulary=int(model.config.vocab_size),
        sequences=(*map(tuple, windows), *((*p[1], *a[0]) for p, a in zip(prompts, answers, strict=True))),
        windows=len(windows),
        extra=extra,
    )
    _fill(request.out, meta, model, events)
    _report(request.out, tokenizer, events)


def load(source: Path, parameters: int, budget: int = 0) -> Any:
    """Load the source; at float32 if that fits, else in its own type with layers widened while they run."""
    whole = fits_in_memory(parameters * 4, budget)
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32 if whole else "auto", attn_implementation="eager", trust_remote_code=False
    ).eval()
    if not whole:
        stream_layers(model)
    return model


def short_context(config: Any) -> int:
    """The length up to which LongRoPE's short factors hold, or the whole context."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    original = getattr(config, "original_max_position_embeddings", None)
    original = original or rope.get("original_max_position_embeddings")
    return int(original or config.max_position_embeddings)


def cut(ids: list[int], windows: int, length: int) -> list[list[int]]:
    """Cut the text into whole windows from its start."""
    whole = [ids[at : at + length] for at in range(0, len(ids) - length + 1, length)]
    return whole[:windows]


def logits_of(model: Any, ids: list[int]) -> Any:
    """Give the logits of every position, [len(ids), vocabulary]."""
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()


def greedy(model: Any, ids: list[int], end_tokens: list[int], limit: int) -> tuple[list[int], bool]:
    """Continue with the most likely token until an end token (which is not kept) or the limit."""
    made: list[int] = []
    cache = None
    step = torch.tensor([ids])
    while len(made) < limit:
        with torch.inference_mode():
            out = model(step, past_key_values=cache, use_cache=True)
        token = int(out.logits[0, -1].argmax())
        if token in end_tokens:
            return made, True
        made.append(token)
        cache, step = out.past_key_values, torch.tensor([[token]])
    return made, False


def _fill(folder: Path, meta: Meta, model: Any, events: Events) -> None:
    writer = Writer(folder, meta)
    for at, ids in enumerate(meta.sequences):
        writer.add(ids, logits_of(model, list(ids)))
        events.progress("reference", at + 1, len(meta.sequences), "sequences")
    writer.close()


def _extra(tokenizer: SourceTokenizer, text: str, text_ids: list[int], prompts: Any, answers: Any) -> dict[str, Any]:
    return {
        "end_tokens": tokenizer.end_tokens,
        "turn_end_tokens": tokenizer.turn_end_tokens(),
        "marker_tokens": tokenizer.marker_tokens(),
        "probes": [{"text": text, "ids": text_ids}, *({"text": t, "ids": ids} for t, ids in prompts)],
        "prompts": [
            {"prompt": prompt, "ids": ids, "answer": made, "text": tokenizer.decode(made), "stopped": stopped}
            for prompt, (_, ids), (made, stopped) in zip(PROMPTS, prompts, answers, strict=True)
        ],
    }


def _report(out: Path, tokenizer: SourceTokenizer, events: Events) -> None:
    reader = Reader(out)
    events.emit(
        "reference",
        windows=reader.meta.windows,
        window_tokens=len(reader.meta.sequences[0]),
        vocabulary=reader.meta.vocabulary,
        perplexity=reader.perplexity(),
        end_tokens=tokenizer.end_tokens,
    )
