"""Renders a source's chat template. It is somebody else's program, so it gets an end."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from converters.base import ConverterError

SECONDS = 10.0  # of the processor; a conversation takes a thousandth of one
LONGEST = 1_000_000  # characters; tokenizing more takes hours


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, ask: bool) -> str:
    """What a conversation becomes with the template of a transformers tokenizer. `ask` lets the assistant go on.

    Raises:
        ConverterError: it takes too long, or writes too much.
    """
    with _ending(SECONDS):
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))
    if len(text) > LONGEST:
        _give_up()
    return text


@contextmanager
def _ending(seconds: float) -> Iterator[None]:
    before = signal.signal(signal.SIGVTALRM, lambda *_: _give_up())
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _give_up() -> NoReturn:
    raise ConverterError(
        "The model's chat template does not come to an end.",
        "Report it to the source repo; nothing can be said to such a model.",
    )
