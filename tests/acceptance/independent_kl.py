"""Measures published GGUF files against their source, with nothing of the mill's.

    python independent_kl.py source FOLDER TEXT ROWS        needs transformers: the source's log-probabilities
    python independent_kl.py compare ROWS FILE...           needs llama-cpp-python: prints JSON by file name

KL(source || variant) in nats, the mean over all positions of 8 windows of 256 tokens, as the card says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

WINDOWS, LENGTH = 8, 256
CONTEXT = 512  # within the original context: LongRoPE's short factors, in both runtimes


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def run_source(folder: str, text: str, rows: str) -> None:
    """One forward pass over all windows at float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # A card's figures are over the text as one line: line breaks are layout.
    words = Path(text).read_text("utf-8").replace("\n", " ")
    ids = tokenizer(words, add_special_tokens=False)["input_ids"][: WINDOWS * LENGTH]
    windows = torch.tensor(ids).reshape(WINDOWS, LENGTH)
    with torch.no_grad():
        logits = torch.cat([model(window[None]).logits for window in windows])
    np.savez(rows, ids=windows.numpy(), logprobs=log_softmax(logits.numpy()))


def compare(rows: str, paths: list[str]) -> None:
    """Every file over the same windows."""
    from llama_cpp import Llama

    source = np.load(rows)
    ids, expected = source["ids"], source["logprobs"]
    figures = {}
    for path in paths:
        llm = Llama(path, n_ctx=CONTEXT, logits_all=True, verbose=False)
        got = []
        for window in ids.tolist():
            llm.reset()
            llm.eval(window)
            got.append(log_softmax(llm.scores[:LENGTH]))
        logprobs = np.stack(got)
        divergence = (np.exp(expected) * (expected - logprobs)).sum(axis=-1)
        agree = logprobs.argmax(axis=-1) == expected.argmax(axis=-1)
        figures[Path(path).name] = {"kl_mean": float(divergence.mean()), "top1": float(agree.mean())}
        llm.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1] == "source":
        run_source(*sys.argv[2:5])
    else:
        compare(sys.argv[2], sys.argv[3:])
