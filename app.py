"""The entry of a Hugging Face Space: serves the page and the webhook, watches and works."""

from __future__ import annotations

import os
import signal
import sys

from bot import logs
from bot.api import serve
from bot.mill import Mill
from bot.settings import Settings


def main() -> None:
    """Serve until the Space is stopped."""
    # SIGTERM unwinds the stack, so that a running converter is stopped and its build put back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if "SPACE_ID" in os.environ:
        os.environ.setdefault("PHIMILL_HOST", "0.0.0.0")  # noqa: S104
    mill = Mill(Settings())
    logs.for_services(mill.settings)
    try:
        serve(mill, ready=lambda url: print(f"Serving on {url}.", flush=True))
    finally:
        mill.close()


if __name__ == "__main__":
    main()
