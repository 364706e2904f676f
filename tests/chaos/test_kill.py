"""Kill -9 of everything at random moments: whatever happens, the Hub ends as if nothing had."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from huggingface_hub import HfApi
from ports import free_port

from bot import demo
from bot.localhub import RunningHub

pytestmark = [pytest.mark.chaos, pytest.mark.backend, pytest.mark.timeout(7200)]

KILLS = 25
PATIENCE = 1800.0  # seconds; only a hang takes so long, however busy the machine
# A step that brought its worker down five times in a row is poison. Whoever is at a third try is left alone.
SPARED = 3
ROUND = Path(__file__).with_name("demo_round.py")


def begin(root: Path, port: int) -> subprocess.Popen[bytes]:
    """A round in a process group of its own: Hub, mill and all."""
    with (root / "round.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROUND), str(root), str(port)], stdout=log, stderr=log, start_new_session=True
        )


def descendants_of_the_world(root: Path) -> list[str]:
    """What still runs on behalf of this world, by its command line or working folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(root) in " ".join(process.cmdline()) or process.cwd().startswith(str(root)):
                found.append(" ".join(process.cmdline())[:120])
        except psutil.Error:
            continue
    return found


def tries(root: Path) -> int:
    """How often in a row the unluckiest step of this world was begun and not ended."""
    journal = root / "home" / "journal.sqlite"
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal, timeout=30)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'phimill_tries'").fetchone():
            return 0
        return database.execute("SELECT max(tries) FROM phimill_tries").fetchone()[0] or 0


def ended(process: subprocess.Popen[bytes], root: Path, moment: float) -> bool:
    """Wait for the moment to kill. Whether the round ended before it came: then it is complete."""
    deadline = time.monotonic() + PATIENCE
    with suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    while process.poll() is None and tries(root) >= SPARED and time.monotonic() < deadline:
        time.sleep(0.2)
    return process.poll() is not None


def end_state(root: Path, port: int) -> dict[str, Any]:
    """Everything a person can see of the published repo, but for the names and times of commits."""
    with RunningHub(root / "hub", port=port) as hub:
        api = HfApi(endpoint=hub.url, token=False)
        refs = api.list_repo_refs(demo.TARGET)
        commits = api.list_repo_commits(demo.TARGET)
        titles = {c.commit_id: c.title for c in commits}
        files = {f.path: (f.size, f.blob_id, f.lfs and f.lfs.sha256) for f in api.list_repo_tree(demo.TARGET)}
        [collection] = api.list_collections(owner=demo.NAMESPACE)
        return {
            "files": files,
            "commits": [c.title for c in commits],
            "tags": {t.name: titles[t.target_commit] for t in refs.tags},
            "collection": [i.item_id for i in api.get_collection(collection.slug).items],
            "repos": sorted(m.id for m in api.list_models()),
        }


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A world with the release on its Hub and nothing built, and the port its Hub is known by."""
    base, port = tmp_path_factory.mktemp("worlds"), free_port()
    original = demo.HUB_PORT
    demo.HUB_PORT = port
    try:
        with demo.opened(base / "fresh", lambda _: None, ""):
            pass
    finally:
        demo.HUB_PORT = original
    return base, port


def test_killed_at_25_random_moments_the_hub_ends_as_after_an_undisturbed_round(worlds: tuple[Path, int]) -> None:
    base, port = worlds
    shutil.copytree(base / "fresh", base / "calm")
    begun = time.monotonic()
    assert begin(base / "calm", port).wait(PATIENCE) == 0, (base / "calm" / "round.log").read_text()[-2000:]
    latest = max(20.0, (time.monotonic() - begun) / 5)
    expected = end_state(base / "calm", port)
    assert len(expected["commits"]) == 8, "the repo's first commit and one per variant"
    assert list(expected["tags"]) == [demo.VERSION]

    seed = random.randrange(2**32)
    print(f"moments from seed {seed}")
    moments = random.Random(seed)
    kills, number = 0, 0
    while kills < KILLS:
        number += 1
        root = base / f"stormy-{number}"
        shutil.copytree(base / "fresh", root)
        while not ended(process := begin(root, port), root, moments.uniform(1, latest) if kills < KILLS else PATIENCE):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            deadline = time.monotonic() + 120
            while (left := descendants_of_the_world(root)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not left, f"kill {kills} left something running"
        assert process.returncode == 0, f"seed {seed}, world {number}: " + (root / "round.log").read_text()[-3000:]
        found = end_state(root, port)
        differing = {path for path in expected["files"] if expected["files"][path] != found["files"].get(path)}
        assert found == expected, f"seed {seed}, world {number}: {differing}"
        leftovers = [p.name for p in (root / "home" / "work" / "variant").glob("*") if not p.name.endswith(".lock")]
        assert leftovers == []
        shutil.rmtree(root)
