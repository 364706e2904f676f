"""A GiB goes through the server without staying in its memory."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pytest
from huggingface_hub import HfApi

from bot.localhub import RunningHub

GIB = 1024**3
ALLOWED = 100 * 1024**2


def peak_memory(pid: int) -> int:
    """Return the largest resident size a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


@pytest.fixture
def gibibyte(tmp_path: Path) -> Path:
    """A file of one GiB that neither compresses nor repeats."""
    path = tmp_path / "w.gguf"
    rng = random.Random(0)
    with open(path, "wb") as file:
        for _ in range(GIB // (16 * 1024**2)):
            file.write(rng.randbytes(16 * 1024**2))
    return path


@pytest.mark.chaos
@pytest.mark.skipif(not psutil.LINUX, reason="reads the peak from /proc")
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("way", ["xet", "lfs"])
def test_a_gibibyte_up_and_down_stays_below_100_mb(tmp_path: Path, gibibyte: Path, way: str) -> None:
    with RunningHub(tmp_path / "hub", process=True) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("miller"))
        api.create_repo("miller/big")
        if way == "xet":
            api.upload_file(path_or_fileobj=gibibyte, path_in_repo="w.gguf", repo_id="miller/big")
        else:
            with open(gibibyte, "rb") as file:
                api.upload_file(path_or_fileobj=file, path_in_repo="w.gguf", repo_id="miller/big")
        path = api.hf_hub_download("miller/big", "w.gguf", local_dir=tmp_path / "copy")
        assert Path(path).stat().st_size == GIB
        peak = peak_memory(hub.pid)
        print(f"{way}: peak {peak / 1024**2:.0f} MiB")
        assert peak < ALLOWED
