"""A converter that needs no model, run in the real sandbox: a file that follows from source and recipe, and figures.

Standard library only, because it is copied to where converters are and runs there.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

BYTES = 100_000
FIGURES = {
    "kl_mean": 1e-6, "kl_p99": 1e-5, "top1": 0.99, "perplexity_ratio": 1.0, "windows": 8, "window_tokens": 256,
    "finite": True, "same_end_tokens": True, "tokenizer_agrees": True,
}  # fmt: skip


def say(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def ground(*parts: bytes) -> bytes:
    """Bytes that follow from `parts`, and take a moment."""
    time.sleep(0.2)
    return hashlib.shake_256(b"\n".join(parts)).digest(BYTES)


def base(request: dict[str, Any]) -> bytes:
    """What all recipes share, made by the first of them and put in its place whole."""
    made = Path(request["shared"], "base.bin")
    if not made.exists():
        draft = made.with_name("draft")
        draft.write_bytes(ground(Path(request["source"], "model.safetensors").read_bytes()))
        draft.rename(made)
    return made.read_bytes()


def convert(request: dict[str, Any]) -> None:
    recipe = request["recipe"]
    name, notes = recipe["file"].format(m=request["model_name"]), f"{recipe['id'].split('/')[1]}.txt"
    Path(request["out"], name).write_bytes(ground(base(request), recipe["id"].encode()))
    Path(request["out"], notes).write_text("notes")
    say("artifact", recipe=recipe["id"], files=[name], extras=[notes], bits_per_weight=4.0)


def evaluate(request: dict[str, Any]) -> None:
    if kept := request.get("save_baseline") or request.get("out"):
        Path(kept).mkdir()
        Path(kept, "logprobs.bin").write_bytes(ground(b"figures"))
    if "artifact" not in request:
        say("reference", windows=8, window_tokens=256, vocabulary=320, perplexity=9.0, end_tokens=[2])
        return
    against = 1e-6 if "baseline" in request else None
    say("metrics", values={**FIGURES, "baseline_kl_mean": against})


if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    {"convert": convert, "evaluate": evaluate}[asked["verb"]](asked)
