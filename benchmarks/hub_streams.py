"""1 GiB up to the embedded Hub and down again by the stock client: rates, and what the server holds meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil
from huggingface_hub import HfApi, constants

from bot.localhub import RunningHub

SIZE = 1024**3
REPO = "bench/big"


def measure(folder: Path) -> list[tuple[str, str, str]]:
    source = folder / "big.safetensors"
    with source.open("wb") as file:
        noise = np.random.default_rng(0)
        for _ in range(SIZE // 2**24):
            file.write(noise.bytes(2**24))
    with RunningHub(folder / "hub", process=True) as hub:
        hub.config.add_user("bench")
        api = HfApi(endpoint=hub.url, token=hub.token("bench"))
        api.create_repo(REPO)
        peak = _Peak(hub.pid)
        began = time.monotonic()
        api.upload_file(path_or_fileobj=str(source), path_in_repo=source.name, repo_id=REPO)
        up = time.monotonic() - began
        began = time.monotonic()
        api.hf_hub_download(REPO, source.name, local_dir=folder / "down")
        down = time.monotonic() - began
        held = peak.stop()
    how = "LFS" if constants.HF_HUB_DISABLE_XET else "Xet"
    return [
        (f"embedded Hub, 1 GiB up ({how})", f"{SIZE / 2**20 / up:.0f} MiB/s", "random bytes: nothing to deduplicate"),
        ("embedded Hub, 1 GiB down", f"{SIZE / 2**20 / down:.0f} MiB/s", ""),
        ("embedded Hub, peak memory of the server", f"{held / 2**20:.0f} MiB", "promise: under 100 MB"),
    ]


class _Peak:
    """The most memory that a process held while this watched it, in bytes."""

    def __init__(self, pid: int) -> None:
        self._process, self._highest, self._over = psutil.Process(pid), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._highest
