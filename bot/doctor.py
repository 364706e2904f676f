"""Looks at the machine, the toolchains and the Hub, and says what stands in the way of a build."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.utils._http import hf_raise_for_status
from pydantic import Field

from bot import sandbox, toolchain
from bot.errors import HubUnreachable, KeyUnusable, PhimillError
from bot.hub_errors import translated
from bot.models import Frozen
from bot.settings import Settings, get_settings
from bot.signing import signer

SHARE = 0.8  # of the memory that is there; the rest is the bot's and the system's
PATIENCE = 10.0  # seconds for the Hub's answer
UNLIMITED = 2**60  # version 1 of cgroups spells "no limit" as a number about so large
CGROUPS = Path("/sys/fs/cgroup")


class Machine(Frozen):
    """What this computer has. Bytes; `memory` is what the bot's container or cgroup leaves of it."""

    python: str
    system: str
    cores: int
    memory: int
    memory_budget: int
    home: Path
    home_free: int
    toolchains: Path
    toolchains_free: int


class BackendState(Frozen):
    """Whether a backend could build now, and with which versions of the packages it is named after.

    Not being ready is no problem: the first build makes it so.
    """

    backend: str
    ready: bool
    path: Path | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    problem: str | None = None


class HubState(Frozen):
    """How the Hub sees us. Of the token only whether there is one."""

    endpoint: str
    reachable: bool
    token: bool
    name: str | None = None
    role: str | None = None
    problem: str | None = None


class SigningState(Frozen):
    """Whether what is published is signed: the fingerprint of the key, if there is one."""

    fingerprint: str | None = None
    problem: str | None = None


class Report(Frozen):
    """Everything `phimill doctor` prints. `problems` are sentences; none means that builds can run."""

    machine: Machine
    sandbox: str
    sandbox_full: bool
    backends: tuple[BackendState, ...]
    hub: HubState
    signing: SigningState
    problems: tuple[str, ...]


def examine(settings: Settings | None = None) -> Report:
    """Look at everything; takes a second, or as long as an unreachable Hub takes to time out."""
    settings = settings or get_settings()
    machine = _machine(settings)
    tier = sandbox.probe()
    backends = tuple(_backend(name, settings) for name in toolchain.backends())
    hub, signing = _hub(settings), _signing(settings)
    return Report(
        machine=machine,
        sandbox=str(tier),
        sandbox_full=tier.full,
        backends=backends,
        hub=hub,
        signing=signing,
        problems=tuple(_problems(settings, machine, tier, backends, hub, signing)),
    )


def memory_budget(settings: Settings | None = None) -> int:
    """Bytes one converter and all its processes may hold: what was set, else 80 % of what is there."""
    settings = settings or get_settings()
    return settings.memory_budget or int(SHARE * _memory())


def cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    return min([psutil.virtual_memory().total, *_cgroup_limits()])


def _cgroup_limits() -> Iterator[int]:
    """The memory limits of this process's cgroup and of those around it, in either version's spelling."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = CGROUPS / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        # Inside a container the path may be the host's and not exist here; the root is then its own.
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base):
                yield from _limit(folder / name)


def _limit(file: Path) -> Iterator[int]:
    try:
        value = int(file.read_text())
    except (OSError, ValueError):  # ValueError: "max"
        return
    if value < UNLIMITED:
        yield value


def _free(path: Path) -> int:
    """Free bytes where `path` is, or will be."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _machine(settings: Settings) -> Machine:
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=cores(),
        memory=_memory(),
        memory_budget=memory_budget(settings),
        home=settings.home,
        home_free=_free(settings.home),
        toolchains=settings.toolchains,
        toolchains_free=_free(settings.toolchains),
    )


def _backend(name: str, settings: Settings) -> BackendState:
    found = toolchain.installed(name, settings=settings)
    if found is not None:
        versions = toolchain.named_versions(name, settings=settings)
        return BackendState(backend=name, ready=True, path=found.path, versions=versions)
    problem = None
    if toolchain.options(name).get("needs_compiler") and not _compiler():
        problem = f"{name} needs a C++ compiler to be installed (Debian: apt-get install g++)."
    return BackendState(backend=name, ready=False, problem=problem)


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)


def _hub(settings: Settings) -> HubState:
    token = get_token()
    api = HfApi(endpoint=settings.endpoint, token=token or False)
    state = HubState(endpoint=settings.endpoint, reachable=True, token=token is not None)
    try:
        with translated("this account"):
            if token is None:
                # Not HfApi.list_models: it tries for half a minute.
                hf_raise_for_status(get_session().get(f"{settings.endpoint}/api/models?limit=1", timeout=PATIENCE))
                return state
            account = api.whoami()
            role = account.get("auth", {}).get("accessToken", {}).get("role")
            return state.model_copy(update={"name": account.get("name"), "role": role})
    except PhimillError as error:
        reachable = not isinstance(error, HubUnreachable)
        return state.model_copy(update={"reachable": reachable, "problem": str(error)})


def _signing(settings: Settings) -> SigningState:
    try:
        found = signer(settings)
    except KeyUnusable as error:
        return SigningState(problem=str(error))
    return SigningState(fingerprint=found.fingerprint if found else None)


def _problems(
    settings: Settings,
    machine: Machine,
    tier: sandbox.Tier,
    backends: tuple[BackendState, ...],
    hub: HubState,
    signing: SigningState,
) -> Iterator[str]:
    if settings.sandbox == "strict" and not tier.full:
        yield f"PHIMILL_SANDBOX=strict, but only {tier} is to be had here."
    for path, free in ((machine.home, machine.home_free), (machine.toolchains, machine.toolchains_free)):
        if free < settings.disk_floor:
            yield f"Less than {settings.disk_floor / 2**30:g} GiB are free on the disk of {path}."
    yield from (state.problem for state in backends if state.problem)
    if not backends:
        yield "There is no backend with a requirements.txt."
    if signing.problem:
        yield signing.problem
    if hub.problem:
        yield hub.problem
    elif not hub.token:
        yield "There is no Hub token, so nothing can be published. Use `hf auth login` or HF_TOKEN."
    elif hub.role == "read":
        yield "The Hub token may only read, so nothing can be published."
