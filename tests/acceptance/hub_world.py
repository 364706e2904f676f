"""A small world to try the mill in: a real Hub, Microsoft's tiny release on it, and the bot's own home.

Nothing here is simulated. The mill runs as its users run it: `phimill` in a process of its own that gets its
Hub and its token from HF_ENDPOINT and HF_TOKEN.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import phi_repos
from huggingface_hub import HfApi, RepoFile

from bot.localhub import RunningHub

HERE = Path(__file__).parent
MODEL = "Phi-3.5-tiny-instruct"
SOURCE = f"microsoft/{MODEL}"
TARGET = f"phimill/{MODEL}-GGUF"
BOT, MICROSOFT, STRANGER = "millbot", "satya", "eve"
BIN = Path(sys.executable).parent
PATIENCE = 1700  # seconds; the machine may be busy with other things


@dataclass(frozen=True)
class Ran:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with --format json."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The last error that it explained with --format json: code, message, hint."""
        return dict(json.loads([line for line in self.err.splitlines() if '"error"' in line][-1])["error"])


class World:
    """A Hub under `root/hub` and a mill whose home is `root/home`. What runs, runs inside the `with` block."""

    def __init__(self, root: Path, *, process: bool = False) -> None:
        self.root, self.home = root, root / "home"
        (root / "hub").mkdir(parents=True, exist_ok=True)
        self.hub = RunningHub(root / "hub", process=process)
        people = self.hub.config
        if "microsoft" not in people.accounts.orgs:
            for name in (BOT, MICROSOFT, STRANGER):
                people.add_user(name)
            people.add_org("microsoft", {MICROSOFT: "admin"})
            people.add_org("phimill", {BOT: "admin"})

    def __enter__(self) -> World:
        self.hub.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.hub.__exit__(None, None, None)

    def api(self, user: str = BOT) -> HfApi:
        return HfApi(endpoint=self.hub.url, token=self.hub.token(user))

    @cached_property
    def reader(self) -> HfApi:
        """The bot's client, to look at what was published."""
        return self.api()

    def release(self, folder: Path, repo: str = SOURCE, user: str = MICROSOFT) -> str:
        """Put a folder onto the Hub as a release; returns the commit."""
        return phi_repos.upload(self.hub.url, self.hub.token(user), repo, folder)

    def env(self, *, url: str | None = None, token: str | None = None, **more: str) -> dict[str, str]:
        """The whole environment of a mill of this world."""
        kept = {name: os.environ[name] for name in ("PHIMILL_TOOLCHAINS",) if name in os.environ}
        return {
            **kept,
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HF_ENDPOINT": url or self.hub.url,
            "HF_TOKEN": token or self.hub.token(BOT),
            "HF_HOME": str(self.root / "hf-home"),
            "PHIMILL_HOME": str(self.home),
            "PHIMILL_NAMESPACE": "phimill",
            # One backend is enough to try the mill in; `matrix` is the world of all of them.
            "PHIMILL_BACKENDS": '["gguf"]',
            **more,
        }

    def phimill(self, *arguments: str, patience: float = PATIENCE, **env: Any) -> Ran:
        """Run the command line to its end, waiting for it so many seconds at most."""
        return run([BIN / "phimill", *arguments], self.env(**env), patience=patience)

    def start(self, *arguments: str, **env: Any) -> subprocess.Popen[str]:
        """Begin to run the command line."""
        return popen([BIN / "phimill", *arguments], self.env(**env))

    def convert(self, *recipes: str, repo: str = SOURCE, **env: Any) -> Ran:
        """What somebody does who wants these recipes of the release."""
        asked = [word for recipe in recipes for word in ("--recipe", recipe)]
        return self.phimill("convert", repo, *asked, "--format", "json", **env)

    def watch_once(self, **env: Any) -> Ran:
        """One round of the watcher, with everything that it finds to do."""
        return self.phimill("watch", "--once", "--format", "json", **env)

    def look(self, rounds: int = 1, **env: Any) -> list[dict[str, Any]]:
        """What the watcher's clock does, so many times in one process: what it queued, which calls it made."""
        ran = run([sys.executable, HERE / "look.py", str(rounds)], self.env(**env))
        assert ran.code == 0, ran.err
        return list(ran.json)

    def commits(self, repo: str = TARGET) -> list[str]:
        """The titles of a repo's commits, oldest first."""
        return [c.title for c in reversed(self.reader.list_repo_commits(repo))]

    def tags(self, repo: str = TARGET) -> dict[str, str]:
        """The commit of every tag of a repo."""
        return {t.name: t.target_commit for t in self.reader.list_repo_refs(repo).tags}

    def files(self, revision: str = "main", repo: str = TARGET) -> dict[str, str]:
        """The sha256 of every large file of a repo, and the blob id of every small one, by path."""
        tree = self.reader.list_repo_tree(repo, revision=revision, recursive=True)
        return {f.path: f.lfs.sha256 if f.lfs else f.blob_id for f in tree if isinstance(f, RepoFile)}

    def read(self, path: str, revision: str = "main", repo: str = TARGET) -> bytes:
        """The bytes of a published file."""
        folder = self.root / "looked-at"
        return Path(self.reader.hf_hub_download(repo, path, revision=revision, cache_dir=folder)).read_bytes()

    def receipt(self, revision: str = "main") -> dict[str, Any]:
        """What the mill says about what it published."""
        return dict(json.loads(self.read("phimill.json", revision)))

    def published(self) -> set[str]:
        """Every model in the bot's namespace."""
        return {m.id for m in self.reader.list_models(author="phimill")}


def weights(files: dict[str, str]) -> dict[str, str]:
    """Only the GGUF files of a listing."""
    return {path: oid for path, oid in files.items() if path.endswith(".gguf")}


def run(command: Sequence[str | Path], env: dict[str, str], stdin: str = "", *, patience: float = PATIENCE) -> Ran:
    """Run a program to its end in an environment of its own."""
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=patience, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def popen(command: Sequence[str | Path], env: dict[str, str], cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a program in an environment of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> Ran:
    """Wait for a program that was started."""
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


def copied(snapshot: Path, root: Path) -> Path:
    """Copy a world that nobody runs in; work folders are read-only on disk, their copies need not be."""
    shutil.copytree(snapshot, root, symlinks=True)
    return root
