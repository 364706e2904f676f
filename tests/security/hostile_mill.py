"""A whole mill around the converter of `hostile_deeds.py`: engine, workspace, publisher, Hub, and canaries everywhere.

Only the limits of a deed are made small, so that reaching them takes no time. The sandbox is the real one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hostile_deeds
import key_files
import phi_repos
import psutil
import pytest
from huggingface_hub import HfApi

from bot import converter, recipes, sandbox, toolchain
from bot.build import Builder
from bot.builds import Build, VariantResult
from bot.engine import Engine
from bot.hub import Hub
from bot.journal import Journal
from bot.localhub import RunningHub
from bot.models import digest
from bot.planning import Planning
from bot.publisher import Publisher
from bot.settings import Settings
from bot.signing import signer

MODEL = "microsoft/phi"
PATIENCE = 600.0  # seconds; only a hang takes so long, however busy the machine
# Not of the form of a token: what looks like one would be taken out of a log, and a leak into it not be seen.
CANARY = "CanaryCanaryCanaryCanaryCanary"
BACKEND = """
[backend]
id = "hostile"
title = "Hostile"
repo = "{ns}/{m}-hostile"
baseline = "hostile/behaves"
library_name = "hostile"
"""
RECIPE = """
[[recipe]]
id = "hostile/%(deed)s"
title = "%(deed)s"
precision = "FP32"
preset = "recommended"
file = "{m}-%(deed)s.bin"
bits_per_weight = 32
suits = "Tests."
baseline = "hostile/%(deed)s"
options = { deed = "%(deed)s" }
by_hand = ["convert --type {base}"]
"""
ARCHITECTURES = '[Phi3ForCausalLM]\nstatus = "supported"\nreason = "It is known."\n'
DEEDS = sorted(
    name
    for name, value in vars(hostile_deeds).items()
    if callable(value)
    and getattr(value, "__module__", "") == "hostile_deeds"
    and value.__code__.co_argcount == 0
    and name not in ("convert", "evaluate")
)


@dataclass
class Ended:
    """How a build with a deed and a well-behaved variant ended, and what its log says."""

    build: Build
    deed: VariantResult
    good: VariantResult
    log: list[str]

    @property
    def said(self) -> str:
        return "\n".join(self.log)


@dataclass
class World:
    """One mill that works, and what its hostile converters would like to get at."""

    settings: Settings
    engine: Engine
    journal: Journal
    planning: Planning
    running: RunningHub
    api: HfApi
    canaries: Canaries
    limits: dict[str, Any] = field(default_factory=dict)

    def grind(self, deed: str, **limits: Any) -> Ended:
        """Build a variant whose converter does `deed` within `limits`, and a well-behaved one after it."""
        namespace = f"org-{os.urandom(4).hex()}"
        self.running.config.add_org(namespace, {"millbot": "admin"})
        self.limits = limits
        asked = (f"hostile/{deed}", "hostile/behaves")
        [request] = self.planning.plan(MODEL, asked, namespace).builds
        build = self.engine.submit(request, person=True)
        deadline = time.monotonic() + PATIENCE
        while not (build := self.engine.build(build.id)).over:
            assert time.monotonic() < deadline, self.journal.log(build.id)[-5:]
            time.sleep(0.2)
        results = {result.recipe: result for result in build.results}
        log = [f"{line.level}: {line.text}" for line in self.journal.log(build.id)]
        none = VariantResult(recipe="", status="failed", reason=str(build.failure))
        return Ended(build, *(results.get(name, none) for name in asked), log)

    def published(self, result: VariantResult) -> dict[str, str]:
        """The text of every file in the repo that a result says it was published to."""
        assert result.repo is not None
        with tempfile.TemporaryDirectory() as folder:
            self.api.snapshot_download(result.repo, local_dir=folder, ignore_patterns=["*.png"])
            files = [path for path in Path(folder).rglob("*") if path.is_file() and ".cache" not in path.parts]
            return {path.name: path.read_text(errors="replace") for path in files}

    def alive(self) -> list[list[str]]:
        """The command lines of processes that a converter or its launcher left: they have our code in their paths."""
        code = str(toolchain.code_path(settings=self.settings))
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            with suppress(psutil.Error):
                if process.info["status"] != psutil.STATUS_ZOMBIE and process.environ().get("PYTHONPATH") == code:
                    found.append(process.info["cmdline"])
        return found


@dataclass
class Canaries:
    """What nobody may touch: files, listeners and a bystander."""

    root: Path
    files: dict[Path, bytes]
    tcp: socket.socket
    datagrams: dict[str, socket.socket]
    bystander: subprocess.Popen[bytes]

    def heard(self) -> list[str]:
        """The listeners to which something has come."""
        found = []
        for name, listener in self.datagrams.items():
            with suppress(BlockingIOError):
                listener.recv(100)
                found.append(name)
        with suppress(BlockingIOError):
            self.tcp.accept()
            found.append("tcp")
        return found

    def touched(self) -> list[Path]:
        """The files that are not what they were, and those that were not there."""
        changed = [path for path, content in self.files.items() if not path.exists() or path.read_bytes() != content]
        return changed + list(self.root.rglob("canary-escape"))


@contextmanager
def canaries(root: Path, home: Path) -> Iterator[Canaries]:
    """Lay out what a hostile converter looks for. `root` holds everything of this mill."""
    texts = {root / "hf-home" / "token": CANARY, home / "work" / "variant" / "other" / "weights.bin": CANARY}
    for path, text in texts.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    key = key_files.make(home).private  # where an operator would be most likely to put it badly
    (root / "elsewhere").mkdir()
    udp, unix, abstract = (socket.socket(f, socket.SOCK_DGRAM) for f in (socket.AF_INET, *2 * [socket.AF_UNIX]))
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
    addresses = {"udp": ("127.0.0.1", 0), "unix": str(root / "listener"), "abstract": f"\0{root.name}-{os.getpid()}"}
    datagrams = {"udp": udp, "unix": unix, "abstract": abstract, "netlink": netlink}
    with socket.create_server(("127.0.0.1", 0)) as tcp, subprocess.Popen(["sleep", "86400"]) as bystander:
        for name, listener in datagrams.items():
            listener.bind(addresses.get(name, (0, 0)))
            listener.setblocking(False)
        tcp.setblocking(False)
        yield Canaries(root, {path: path.read_bytes() for path in (*texts, key)}, tcp, datagrams, bystander)
        bystander.kill()
        for listener in datagrams.values():
            listener.close()


def targets(canaries: Canaries, home: Path) -> dict[str, Any]:
    """What a converter that has done its homework knows."""
    token, other, key = canaries.files
    return {
        "token": str(token),
        "other": str(other),
        "key": str(key),
        "home": str(home),
        "databases": [str(home / name) for name in ("engine.sqlite", "journal.sqlite")],
        "outside": [str(canaries.root / "elsewhere"), "/tmp", "/dev/shm", str(Path.home())],
        "bot": os.getpid(),
        "bystander": canaries.bystander.pid,
        "tcp": canaries.tcp.getsockname()[1],
        "udp": canaries.datagrams["udp"].getsockname()[1],
        "unix": canaries.datagrams["unix"].getsockname(),
        "abstract": canaries.datagrams["abstract"].getsockname()[1:].decode(),
        "netlink": canaries.datagrams["netlink"].getsockname()[0],
    }


def install(root: Path, knows: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    """Make `hostile` the only backend, run by the interpreter of the tests, and what it knows a file beside it."""
    converters = root / "src" / "converters"
    for name in ("hostile", "reference"):
        (converters / name).mkdir(parents=True)
        (converters / name / "__init__.py").touch()
        (converters / name / "requirements.txt").touch()
        (converters / name / "__main__.py").write_text(Path(hostile_deeds.__file__).read_text())
        (converters / name / "targets.json").write_text(json.dumps(knows))
    (converters / "__init__.py").touch()
    (converters / "text").mkdir()
    for name in ("calibration.txt", "evaluation.txt"):
        (converters / "text" / name).write_text("Text.")
    data = BACKEND + "".join(RECIPE % {"deed": deed} for deed in DEEDS)
    (converters / "hostile" / "recipes.toml").write_text(data)
    (converters / "hostile" / "architectures.toml").write_text(ARCHITECTURES)
    backend = recipes.load(converters / "hostile")
    tools = toolchain.Toolchain("hostile", Path(sys.prefix), Path(sys.executable), "0" * 64, {"hostile": "1"})
    patch.setattr(recipes, "backends", lambda: {backend.id: backend})
    patch.setattr(toolchain, "converters_root", lambda: converters)
    patch.setattr(toolchain, "ensure", lambda *_, **__: tools)
    patch.setattr(toolchain, "named_versions", lambda *_, **__: {"hostile": "1"})
    patch.setattr(toolchain, "lock_digest", lambda name: digest("lock", name))


@contextmanager
def working(root: Path, **settings: Any) -> Iterator[World]:
    """A mill at work, with a release to convert. Everything of it lies under `root`."""
    home = root / "home"
    signing = home / "signing.pem"
    made = Settings(home=home, toolchains=root / "chains", disk_floor=1, threads=2, signing_key=signing, **settings)
    with pytest.MonkeyPatch.context() as patch, canaries(root, home) as wanted, RunningHub(root / "hub") as running:
        install(root, targets(wanted, home), patch)
        for name in ("microsoft", "millbot"):
            running.config.add_user(name)
        phi_repos.upload(running.url, running.token("microsoft"), MODEL, phi_repos.write("phi35_mini", root / "phi"))
        token = running.token("millbot")
        hub = Hub(running.url, token)
        publisher = Publisher(hub, lambda: token, signer(made))
        journal = Journal(f"sqlite:///{home / 'journal.sqlite'}")
        engine = Engine(made, journal)
        api = HfApi(endpoint=running.url, token=token)
        world = World(made, engine, journal, Planning(made, hub, publisher), running, api, wanted)
        narrow(world, patch)
        try:
            with engine.working(Builder(made, hub, publisher)):
                yield world
        finally:
            engine.close()
            journal.close()


def narrow(world: World, patch: pytest.MonkeyPatch) -> None:
    """Give the child that does a deed the limits of its test, and leave everything else of the call as it is."""
    real = converter.call

    def call(backend: str, request: dict[str, Any], *, limits: sandbox.Limits, **rest: Any) -> converter.Reply:
        if request.get("recipe", {}).get("id", "hostile/behaves") != "hostile/behaves":
            limits = replace(limits, **world.limits)
        return real(backend, request, limits=limits, **rest)

    patch.setattr(converter, "call", call)
