"""The command line: `phimill`. Thin: every command asks the mill and shows the answer."""

from __future__ import annotations

from bot.cli.entry import main

__all__ = ["main"]
