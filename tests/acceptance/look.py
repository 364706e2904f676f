"""Does what the watcher's clock does, and prints for each time what was queued and which calls were made.

    python look.py TIMES

Nobody takes the builds here, so that looking and building can be told apart.
"""

from __future__ import annotations

import json
import sys

from bot.mill import Mill


def main() -> None:
    mill = Mill()
    rounds = []
    for _ in range(int(sys.argv[1])):
        mill.hub.calls.clear()
        queued = [build.id for build in mill.reconcile()]
        rounds.append({"queued": queued, "calls": list(mill.hub.calls)})
    mill.close()
    print(json.dumps(rounds))


if __name__ == "__main__":
    main()
