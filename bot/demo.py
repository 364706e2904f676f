"""The demonstration: a Hub of its own, a tiny Phi released on it, and the bot at work. All on 127.0.0.1.

The Hub and the bot are processes of their own: huggingface_hub reads HF_ENDPOINT once, when it is imported.
Everything is kept under one folder; a second demonstration in the same folder goes on from there.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bot import toolchain
from bot.builds import VariantResult
from bot.errors import PhimillError, UsageError
from bot.localhub import HubConfig
from bot.localhub.config import hash_token
from bot.ui import words

HUB_PORT, PAGE_PORT = 7861, 7860
START_SECONDS = 60.0
STOP_SECONDS = 30.0
MODEL = Path(__file__).parents[1] / "tests" / "models" / "tiny-phi-3.5-instruct"
SOURCE_ORG, NAMESPACE = "microsoft", "phimill"
SOURCE = f"{SOURCE_ORG}/Phi-3.5-tiny-instruct"
TARGET = f"{NAMESPACE}/Phi-3.5-tiny-instruct-GGUF"
FILE, VERSION = "Phi-3.5-tiny-instruct-Q4_K_M.gguf", "v1.0"
UPLOADER, BOT_USER = "uploader", "miller"


class Demo:
    """A running demonstration. `hub` is what to set HF_ENDPOINT to."""

    source, target = SOURCE, TARGET

    def __init__(self, root: Path, hub: str, token: str, again: str) -> None:
        self.hub = hub
        self.environment = _environment(root, hub, token, again)

    def bot(self, *command: str) -> int:
        """Run a phimill command against the Hub and return its exit code. What it tells goes to stderr."""
        with _running([sys.executable, "-m", "bot.cli", *command], self.environment) as process:
            return process.wait()

    def results(self) -> tuple[VariantResult, ...]:
        """Every variant of the release, as the Hub has it."""
        command = [sys.executable, "-m", "bot.cli", "--format", "json", "convert", SOURCE, "--dry-run"]
        answer = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=False)
        if answer.returncode:
            return ()
        return tuple(VariantResult.model_validate(one) for one in json.loads(answer.stdout)["variants"])

    def pull_lines(self, result: VariantResult | None) -> tuple[str, ...]:
        """Shell lines that pull a variant back; of the release's INT4 file when none is given."""
        hf = _from_here(shutil.which("hf") or Path(sys.executable).with_name("hf"))
        # Only the backend's own environment has llama.cpp.
        made = toolchain.installed("gguf")
        python = str(made.python) if made else "python"
        if result is None or not result.repo or not result.tag:
            return words.pull_lines(TARGET, VERSION, FILE, self.hub, hf, python)
        return words.pull_lines(result.repo, result.tag, result.files[0], self.hub, hf, python)


@contextmanager
def opened(root: Path, say: Callable[[str], None], again: str) -> Iterator[Demo]:
    """A demonstration under `root`, ready for the bot. Ends its Hub on the way out.

    Raises:
        UsageError: the tiny model is not there.
        PhimillError: the Hub did not start.
    """
    if not MODEL.is_dir():
        raise UsageError(
            "The demonstration needs the tiny model, which only a clone of the repository has.",
            "Clone the repository, and run `make demo` there.",
        )
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    config = HubConfig(root / "hub")
    _make_accounts(config)
    port = _port(HUB_PORT)
    command = [sys.executable, "-m", "bot.localhub", "--root", str(root / "hub"), "--port", str(port)]
    with _running(command, _quiet_environment()) as process:
        _await(process, port)
        shown = Demo(root, f"http://127.0.0.1:{port}", _kept_token(config, root / "token"), again)
        _release(config, root, shown.hub, say)
        yield shown


def _from_here(path: str | Path) -> str:
    """How to call a program from the current folder."""
    here = Path.cwd()
    return str(Path(path).relative_to(here) if Path(path).is_relative_to(here) else path)


def _make_accounts(config: HubConfig) -> None:
    """Microsoft's organisation and the bot's, each with one member: the bot cannot write where it reads."""
    if UPLOADER not in config.accounts.users:
        config.add_user(UPLOADER)
        config.add_org(SOURCE_ORG, {UPLOADER: "admin"})
    if BOT_USER not in config.accounts.users:
        config.add_user(BOT_USER)
        config.add_org(NAMESPACE, {BOT_USER: "admin"})


def _kept_token(config: HubConfig, file: Path) -> str:
    """The bot's token. The Hub keeps its hash only, so the demonstration keeps the text."""
    if file.exists() and hash_token(file.read_text()) in config.accounts.tokens:
        return file.read_text()
    token = config.add_token(BOT_USER, "write")
    file.touch(mode=0o600)
    file.write_text(token)
    return token


def _release(config: HubConfig, root: Path, hub: str, say: Callable[[str], None]) -> None:
    """Release the tiny Phi, once: an uploader's own process with the stock client."""
    done = root / "released"
    if done.exists():
        return
    say(f"Releasing {SOURCE}.")
    environment = _environment(root, hub, config.add_token(UPLOADER, "write"), "")
    command = [sys.executable, "-m", "bot.demo", str(MODEL), SOURCE]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise PhimillError(f"{SOURCE} could not be released.", f"Delete {root} and try again.")
    done.touch()


def upload(folder: Path, repo: str) -> None:
    """Put a folder on the Hub as one commit, unless it is there."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    if api.file_exists(repo, "model.safetensors"):
        return
    files = sorted(path for path in folder.iterdir() if path.is_file())
    api.create_commit(
        repo,
        [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path)) for path in files],
        commit_message="Release",
    )


def _quiet_environment() -> dict[str, str]:
    """This process's environment without anybody's Hub settings."""
    hub_words = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(hub_words)}


def _environment(root: Path, hub: str, token: str, again: str) -> dict[str, str]:
    local = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
    return _quiet_environment() | {
        "HF_ENDPOINT": hub,
        "HF_TOKEN": token,
        "HF_HOME": str(root / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": local,
        "no_proxy": local,
        "PHIMILL_HOME": str(root / "home"),
        "PHIMILL_NAMESPACE": NAMESPACE,
        "PHIMILL_WATCH": json.dumps([SOURCE_ORG]),
        "PHIMILL_HOST": "127.0.0.1",
        "PHIMILL_PORT": str(_port(PAGE_PORT)),
        "PHIMILL_AGAIN": again,
    }


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child of our process group: it hears Ctrl-C itself, is ended when we leave, and dies when we do."""
    # Our stdout is for our own answer.
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise PhimillError("The demonstration's Hub did not start.", "Is another one running in this folder?")
        time.sleep(0.05)


def _port(preferred: int) -> int:
    """`preferred`, or a free port when somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    upload(Path(sys.argv[1]), sys.argv[2])
