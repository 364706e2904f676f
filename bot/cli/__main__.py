"""`python -m bot.cli`: the same as `phimill`."""

from __future__ import annotations

from bot.cli import main

main()
