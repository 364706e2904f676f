"""`python -m bot.localhub --root DIR --port N`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bot.localhub.server import serve


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bot.localhub", description="Serve an embedded Hub.")
    parser.add_argument("--root", type=Path, required=True, help="folder that keeps everything")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8077, help="port to listen on")
    arguments = parser.parse_args()
    serve(arguments.root, arguments.host, arguments.port)


if __name__ == "__main__":
    main()
