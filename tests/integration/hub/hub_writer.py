"""A client that commits one thing after the other until the Hub is gone, and a look at what of it is there."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi

from bot.localhub import RunningHub

REPO = "miller/m"

# Commits three files that only belong together, two regular and one large, until it is killed.
WRITER = """
import random, sys
from huggingface_hub import CommitOperationAdd, HfApi

for number in range(int(sys.argv[1]), 10**9):
    mark = str(number).encode()
    weights = random.Random(number).randbytes(200_000) + mark
    files = {"a.txt": mark, "b.txt": mark, "w.gguf": weights}
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    print(HfApi().create_commit("miller/m", operations, commit_message=str(number)).oid, flush=True)
"""


def connect(hub: RunningHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token("miller"))


def write_until(end: Callable[[], None], hub: RunningHub, home: Path, life: int) -> list[str]:
    """End the Hub while a client commits; return the commits that the client was told of."""
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token("miller"), "HF_HOME": str(home)}
    command = [sys.executable, "-c", WRITER, str(life * 1000)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(2)]
        assert all(told), "the client gave up"
        time.sleep(random.Random(life).uniform(0.3, 0.8))
        end()
        writer.kill()  # or it would go on trying for a minute
        return [*told, *writer.stdout.read().split()]


def check_whole(api: HfApi, acknowledged: list[str], cache: Path) -> None:
    """Every commit that a client was told of is there, and every one that is there is whole."""
    commits = api.list_repo_commits(REPO)
    assert set(acknowledged) - {commit.commit_id for commit in commits} == set(), "lost"
    assert len(acknowledged) > 3
    for commit in commits[:-1]:
        for name in ("a.txt", "b.txt"):
            path = api.hf_hub_download(REPO, name, revision=commit.commit_id, cache_dir=cache)
            assert Path(path).read_text() == commit.title
        path = api.hf_hub_download(REPO, "w.gguf", revision=commit.commit_id, cache_dir=cache)
        number = int(commit.title)
        assert Path(path).read_bytes() == random.Random(number).randbytes(200_000) + commit.title.encode()
