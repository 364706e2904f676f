"""Ctrl-C and SIGTERM: everything in hand is put back, and the person is told how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bot.cli.output import Output

# The command to name instead of this one, when another command started it.
AGAIN = "PHIMILL_AGAIN"


class Terminated(BaseException):
    """SIGTERM came. Unwinds the stack as Ctrl-C does, so that every `with` block closes."""


@contextmanager
def resumable(output: Output) -> Iterator[None]:
    """Wraps work that the same command goes on with later. Enter it before the mill's own contexts."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        output.say(f"Stopped. Nothing is lost: run `{output.again}` to go on.")
        raise
