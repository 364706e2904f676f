"""The fixed questions that every variant answers beside its source."""

from __future__ import annotations

PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Explain in two sentences why the sky is blue.",
    "List three prime numbers and say why each of them is prime.",
)
NEW_TOKENS = 48


def common_prefix(left: list[int], right: list[int]) -> int:
    """How many tokens two continuations share from their start."""
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return at
    return min(len(left), len(right))
