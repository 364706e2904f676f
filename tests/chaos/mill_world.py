"""A world in which workers can be killed: a Hub with some releases, homes and a database, and what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import sqlalchemy as sa
from huggingface_hub import HfApi
from mill_worker import settings
from postgres import new_database

from bot.builds import Build
from bot.engine import Engine
from bot.journal import Journal
from bot.localhub import RunningHub
from bot.workspace import KINDS, Workspace

HERE = Path(__file__).parent
WORKERS = ("one", "other")
RELEASES = ("phi-one", "phi-two")
REPOS = [f"phimill/{name}-{kind}" for name in RELEASES for kind in ("solo", "twin", "twin-web")]
PATIENCE = 900.0  # seconds; only a hang takes so long, however busy the machine


class Fresh(NamedTuple):
    """The root of a Hub with the releases on it and nothing built, and the port it is known by."""

    root: Path
    port: int


class Nursery:
    """Forks workers. What they say goes to a log in their world."""

    def __init__(self) -> None:
        path = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE)))
        self._process = subprocess.Popen(
            [sys.executable, HERE / "mill_worker.py"], env={**os.environ, "PYTHONPATH": path}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def fork(self, **order: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@dataclass
class World:
    """Some releases on a running Hub, and workers on one database. `homes`: that of each worker, by its name."""

    root: Path
    hub: RunningHub
    nursery: Nursery
    homes: dict[str, str]
    database: str | None
    running: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, fate: str | None = None, after: int = 0) -> None:
        self.running[name] = self.nursery.fork(
            root=str(self.root), home=self.homes[name], log=f"{name}.log", hub=self.hub.url,
            token=self.hub.token("millbot"), database=self.database, fate=fate, after=after,
        )  # fmt: skip

    def kill(self, name: str) -> None:
        """Kill a worker with its process group. What that leaves behind has to end by itself."""
        with suppress(ProcessLookupError):  # it was faster
            os.killpg(self.running[name], signal.SIGKILL)
        self.fallen(name)

    def kill_all(self) -> None:
        for name in list(self.running):
            self.kill(name)

    def fallen(self, name: str) -> None:
        """Wait until a worker that was killed has gone."""
        pid = self.running.pop(name)
        wait_for("its end", lambda: not psutil.pid_exists(pid))

    def dead(self) -> list[str]:
        """The workers that have ended by themselves."""
        return [name for name, pid in self.running.items() if not psutil.pid_exists(pid)]

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.hub.url, token=False)

    @cached_property
    def _journal(self) -> Journal:
        return Journal(self.database or f"sqlite:///{self.root / self._home / 'journal.sqlite'}")

    @cached_property
    def _engine(self) -> Engine:
        made = settings(self.root, self._home).model_copy(update={"database_url": self.database})
        return Engine(made, self._journal)

    @property
    def _home(self) -> str:
        return next(iter(self.homes.values()))

    def close(self) -> None:
        self.kill_all()
        self._engine.close()
        self._journal.close()

    def tries(self) -> int:
        """How often in a row the unluckiest step was begun and not ended."""
        with self._journal._engine.connect() as tx:
            return tx.execute(sa.text("SELECT max(tries) FROM phimill_tries")).scalar() or 0

    def tagged(self) -> bool:
        """Whether every release has all its repos, with their tags."""
        api = self.api
        there = {model.id for model in api.list_models(author="phimill")}
        return there >= set(REPOS) and all(api.list_repo_refs(repo).tags for repo in REPOS)

    def builds(self) -> tuple[Build, ...]:
        """Every build there ever was."""
        return self._engine.builds(1000)

    def done(self) -> bool:
        """Whether everything is published, and nothing waits or runs."""
        return self.tagged() and all(build.over for build in self.builds())

    def said(self) -> str:
        """The end of what each worker said, and of the logs of what went wrong."""
        logs = [f"{log.name}: {log.read_text(errors='replace')[-3000:]}" for log in sorted(self.root.glob("*.log"))]
        unhappy = [f"{build.id} {build.request.repo} {build.phase} {build.failure}" for build in self.builds()]
        return "\n".join((*logs, *unhappy))

    def alive(self) -> list[str]:
        """What still runs on behalf of this world, by its command line, working folder or the code it was given."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = " ".join((*process.cmdline(), process.cwd(), process.environ().get("PYTHONPATH", "")))
                if str(self.root) in words and process.pid not in (self.hub.pid, *self.running.values()):
                    found.append(words[:200])
        return found

    def folders(self) -> list[str]:
        """What is left in the homes' work folders after a sweep that nothing is too young for."""
        left = []
        for home in set(self.homes.values()):
            workspace = Workspace(settings(self.root, home))
            workspace.sweep(retention=0)
            for kind in (*KINDS, "tmp"):
                left += [str(path) for path in (workspace.root / kind).glob("*")]
        return left


def end_state(api: HfApi) -> dict[str, Any]:
    """Everything a person can see of what was published, but for the ids and times of commits."""
    repos = {}
    for repo in sorted(model.id for model in api.list_models(author="phimill")):
        commits = api.list_repo_commits(repo)
        titles = {c.commit_id: c.title for c in commits}
        repos[repo] = {
            "files": {
                f.path: (f.size, f.blob_id, f.lfs and f.lfs.sha256)
                for f in api.list_repo_tree(repo, recursive=True)
                if hasattr(f, "blob_id")
            },
            "commits": [c.title for c in commits],
            "tags": {t.name: titles[t.target_commit] for t in api.list_repo_refs(repo).tags},
        }
    collections = [api.get_collection(found.slug) for found in api.list_collections(owner="phimill")]
    kept = {found.title: sorted(item.item_id for item in found.items) for found in collections}
    return {"repos": repos, "collections": kept, "how many collections": len(collections)}


def wait_for(what: str, look: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


@contextmanager
def opened(fresh: Fresh, root: Path, nursery: Nursery, server: str | None) -> Iterator[World]:
    """A copy of the fresh world: on SQLite with one home for all, on Postgres with one for each worker."""
    shutil.copytree(fresh.root, root)
    homes = {name: name if server else "home" for name in WORKERS}
    with ExitStack() as stack:
        hub = stack.enter_context(RunningHub(root / "hub", port=fresh.port, process=True))
        database = stack.enter_context(new_database(server)) if server else None
        made = World(root, hub, nursery, homes, database)
        stack.callback(made.close)
        yield made


def calm(world: World) -> None:
    """Let the workers go on until nothing is left to do."""
    for name in set(WORKERS) - set(world.running):
        world.start(name)
    deadline = time.monotonic() + PATIENCE
    while not world.done():
        for name in world.dead():  # one that still had its fate before it
            world.fallen(name)
            world.start(name)
        assert time.monotonic() < deadline, world.said()
        time.sleep(0.2)
