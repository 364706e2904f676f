"""What a look at the watched organisations costs when nothing has changed, and the watcher's memory while idle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bot.localhub import RunningHub

LOOK = """
import json, os, psutil, time
from bot.mill import Mill
mill = Mill()
mill.reconcile()
before = len(mill.hub.calls)
began = time.monotonic()
mill.reconcile()
print(json.dumps([len(mill.hub.calls) - before, time.monotonic() - began, psutil.Process().memory_info().rss]))
mill.close()
"""


def measure(folder: Path) -> list[tuple[str, str, str]]:
    import json

    with RunningHub(folder / "hub") as hub:
        hub.config.add_user("bench")
        hub.config.add_org("microsoft", {"bench": "admin"})
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token("bench"),
            "HF_HOME": str(folder / "huggingface"),
            "PHIMILL_HOME": str(folder / "home"),
            "PHIMILL_NAMESPACE": "bench",
        }
        found = subprocess.run([sys.executable, "-c", LOOK], env=environment, stdout=subprocess.PIPE, check=True)
    calls, seconds, memory = json.loads(found.stdout)
    return [
        ("idle poll, calls to the Hub", str(calls), "promise: at most 2"),
        ("idle poll, time", f"{1000 * seconds:.0f} ms", "Hub on the same machine"),
        ("watcher without a page, memory", f"{memory / 2**20:.0f} MiB", "promise: under 150 MB"),
    ]
