"""One round of the demonstration on a port of one's choice: `python demo_round.py ROOT PORT`.

What `phimill demo --once` does, but for the port, which must be the same in two worlds whose cards are compared.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bot import demo

if __name__ == "__main__":
    demo.HUB_PORT = int(sys.argv[2])
    os.environ["PHIMILL_BACKENDS"] = '["gguf"]'  # what is killed is the mill; one backend is enough for that
    with demo.opened(Path(sys.argv[1]), print, "") as shown:
        assert shown.hub.endswith(f":{sys.argv[2]}"), "somebody has that port"
        sys.exit(shown.bot("watch", "--once"))
