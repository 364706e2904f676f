"""Makes one backend's environment with uv, and says what happens in sentences for people."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import IO, Any, cast

import uv

from bot.errors import BuildCancelled, ToolchainFailed
from bot.settings import Settings

MARKER = "phimill-toolchain.json"
Progress = Callable[[str], None]

# What went wrong, as uv and the compilers put it -> what it means, what to do.
REASONS = (
    (
        r"No CMAKE_C(XX)?_COMPILER|C(XX)? compiler identification is unknown|command '(gcc|cc|c\+\+|g\+\+)'",
        "there is no C++ compiler",
        "Install a C++ compiler (Debian: apt-get install g++; macOS: xcode-select --install).",
    ),
    (
        r"No space left on device|os error 28",
        "the disk is full",
        "Free some disk; `uv cache prune` may help.",
    ),
    (
        r"[Hh]ash mismatch",
        "a package is not the one that was locked",
        "Do not use it; compare the index with the lock.",
    ),
    (
        r"dns error|error sending request|[Ff]ailed to fetch|[Nn]etwork connectivity is disabled|tcp connect",
        "the package index cannot be reached",
        "Check the network, or offer wheels with UV_FIND_LINKS.",
    ),
)

# uv's lines -> sentences for people.
SENTENCES = (
    (r"Resolved (\d+ packages?)", "Resolved {0}."),
    (r"Downloading (\S+) \((.+)\)", "Downloading {0} ({1})."),
    (r"(Prepared|Installed) (\d+ packages?)", "{0} {1}."),
)
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|^PHIMILL_|^HF_|^HUGGING", re.IGNORECASE)
# Of whoever started the bot: their environments, and how they compile llama-cpp-python for themselves.
FOREIGN = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX", "CMAKE_ARGS")


def options_in(folder: Path) -> dict[str, Any]:
    """The `toolchain.toml` of a backend's folder; empty where it has none."""
    path = folder / "toolchain.toml"
    return tomllib.loads(path.read_text()) if path.exists() else {}


@dataclass(frozen=True, slots=True)
class Making:
    """One environment being made: uv, its environment, its output."""

    backend: str
    folder: Path
    path: Path
    lock: int
    settings: Settings
    tell: Progress
    cancelled: Callable[[], bool]

    @property
    def log(self) -> Path:
        return self.path.with_name(f"{self.path.name}.log")

    def make(self, digest: str) -> None:
        """Make it from nothing, whatever an earlier attempt left, and write the marker."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        env = {name: value for name, value in os.environ.items() if not _secret(name)}
        offers = _find_links(env)
        if offers:
            env["UV_FIND_LINKS"] = offers
        torch = [] if offers else ["--torch-backend", self.settings.torch_backend]
        target = ["--python", str(self.path / "bin" / "python"), str(self.folder / "requirements.txt")]
        self.uv(env, "venv", "--no-project", "--python", sys.executable, str(self.path))
        # sync, not install: the lock is the whole truth, nothing beside it is resolved.
        self.uv(env, "pip", "sync", "--allow-empty-requirements", *torch, *self.build_options(), *target)
        site = next((self.path / "lib").glob("python*/site-packages"))
        versions = {found.name.lower(): found.version for found in distributions(path=[str(site)])}
        marker = {"digest": digest, "versions": dict(sorted(versions.items()))}
        part = self.path / f"{MARKER}.part"
        part.write_text(json.dumps(marker, indent=1))
        part.rename(self.path / MARKER)

    def build_options(self) -> list[str]:
        """With what, and how, uv builds from source. Not by environment variables: uv keeps what it compiled by the
        source and these settings, and would take a package from its cache that somebody compiled with others."""
        packages = options_in(self.folder).get("config_settings", {})
        settings = [f"{name}:{key}={value}" for name, pairs in packages.items() for key, value in pairs.items()]
        lock = self.folder / "build.txt"
        tools = ["--build-constraints", str(lock)] if lock.exists() else []
        return [*tools, *(word for setting in settings for word in ("--config-settings-package", setting))]

    def uv(self, env: Mapping[str, str], *arguments: str) -> None:
        """Run uv to its end, with its output in the log and its milestones told."""
        process = subprocess.Popen(
            [uv.find_uv_bin(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=self.path.parent,  # no pyproject.toml of whoever started the bot
            pass_fds=(self.lock,),
            start_new_session=True,
        )
        try:
            tail = self.follow(process)
            if process.wait() != 0:
                raise self.failure(tail)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # a compiler must not outlive a cancelled build
            process.wait()

    def follow(self, process: subprocess.Popen[bytes]) -> list[str]:
        """Read uv's output until it ends. Returns its last lines."""
        minutes = options_in(self.folder).get("minutes", {})
        lines: list[str] = []
        rest = b""
        with (
            cast(IO[bytes], process.stdout) as stream,
            self.log.open("ab") as log,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if self.cancelled():
                    raise BuildCancelled("The build was cancelled.")
                if not selector.select(timeout=0.5):
                    continue
                data = os.read(stream.fileno(), 65536)
                log.write(data)
                *whole, rest = (rest + data).split(b"\n")
                for line in whole if data else [*whole, rest]:
                    lines.append(line.decode(errors="replace").strip())
                    sentence = _sentence(lines[-1], minutes)
                    if sentence:
                        self.tell(sentence)
                del lines[:-400]
                if not data:
                    return lines

    def failure(self, tail: list[str]) -> ToolchainFailed:
        """What to raise for uv's last lines."""
        text = "\n".join(tail)
        known = [(meaning, remedy) for pattern, meaning, remedy in REASONS if re.search(pattern, text)]
        causes = re.findall(r"^(?:cause|error): (.+?)(?=^cause:|^hint:|^$|\Z)", text, re.MULTILINE | re.DOTALL)
        said = " ".join(causes[-1].split())[:300] if causes else "uv failed without a word"
        meaning, remedy = [*known, (said, "")][0]
        message = f"The {self.backend} toolchain could not be made: {meaning.rstrip('.')}."
        return ToolchainFailed(message, f"{remedy} The full log is {self.log}.".strip())


def _secret(name: str) -> bool:
    """Whether a variable has no business in a process that runs other people's build scripts."""
    if name.startswith("UV_") and not name.startswith("UV_PUBLISH"):
        return False  # the credentials of a private index are uv's own
    return name in FOREIGN or bool(SECRET.search(name))


def _sentence(line: str, minutes: Mapping[str, float]) -> str | None:
    building = re.match(r"Building (\S+?)==", line)
    if building:
        package = building[1]
        wait = f"about {minutes[package]:g} minutes" if package in minutes else "which can take some minutes"
        return f"Building {package}, {wait} the first time."
    for pattern, sentence in SENTENCES:
        found = re.match(pattern, line)
        if found:
            return sentence.format(*found.groups())
    return None


def _find_links(env: Mapping[str, str]) -> str:
    """Where local wheels are offered, in uv's spelling: uv's own setting, else pip's. Empty for nowhere."""
    if env.get("UV_FIND_LINKS"):
        return env["UV_FIND_LINKS"]
    pip = env.get("PIP_FIND_LINKS") or ""
    for command in ([sys.executable, "-m", "pip"], ["pip"]):
        if pip or not shutil.which(command[0]):
            break
        asked = subprocess.run(
            [*command, "config", "get", "global.find-links"],
            capture_output=True,
            text=True,
            env=dict(env),
            check=False,
        )
        pip = asked.stdout if asked.returncode == 0 else ""
    return ",".join(pip.split())
