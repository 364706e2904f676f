"""The bot's side of the contract with its converters: one request in, checked events out.

What a converter says is not trusted. Lines that are not one of the events in `bot.converter_events` are its
log; text loses its control characters; errors may only be of the two kinds a converter can know about; and a
file is its own only if it is a plain file with a plain name in the folder it was given.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from bot import filenames, sandbox, toolchain
from bot.converter_events import EVENT, Described, Error, Log, Made, Metrics, Progress, Reference, plain
from bot.errors import ConverterFailed, PhimillError, SourceCorrupt, error_classes
from bot.models import Artifact, ArtifactFile
from bot.settings import Settings, get_settings

# What an artifact may consist of: the formats of the runtimes, and what their loaders read beside them.
EXTENSIONS = frozenset(
    {".bin", ".dat", ".data", ".gguf", ".jinja", ".json", ".md", ".model", ".npy", ".onnx"}
    | {".safetensors", ".tiktoken", ".txt", ".xml"}
)
LICENCE = re.compile(r"(LICENSE|NOTICE)[A-Za-z-]*")  # goes with the weights, and has no extension
MAX_ARTIFACTS = 64
TAIL = 20  # last lines of the log that a failure may quote
MAY_RAISE = ("converter_failed", "source_corrupt", "not_enough_room")
WHAT_A_VERB_GIVES = {
    "describe": ("described",),
    "convert": ("artifacts",),
    "evaluate": ("metrics", "reference"),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call came to. Which fields are set depends on the verb."""

    outcome: sandbox.Outcome
    toolchain: toolchain.Toolchain
    artifacts: tuple[Artifact, ...] = ()
    described: Described | None = None
    reference: Reference | None = None
    metrics: Metrics | None = None


def call(
    backend: str,
    request: Mapping[str, Any],
    *,
    read: Sequence[Path],
    write: Sequence[Path],
    work: Path,
    limits: sandbox.Limits,
    on_progress: Callable[[str, float, float, str], None],
    on_log: Callable[[str, str], None],
    cancelled: Callable[[], bool] = lambda: False,
    on_memory: Callable[[int], None] = lambda _: None,
    settings: Settings | None = None,
) -> Reply:
    """Have `backend` answer one request, in the sandbox, in the calling thread.

    Args:
        request: the JSON object of `converters/base.py`; paths in it are absolute.
        read, write, work: see `sandbox.run`; the backend's own code and environment are added.
        on_progress: gets stage, done, total and unit.
        on_memory: see `sandbox.run`.
        on_log: gets level and text. What the backend's libraries print comes as `debug`.

    Raises:
        ConverterFailed: it said so, ended badly, or did not give what the verb promises.
        SourceCorrupt: it found the source not to be what it claims.
        ConverterStopped, NotEnoughRoom, BuildCancelled: see `sandbox.run`.
        ToolchainFailed: its environment could not be made.
        PhimillError: the fences that it ran behind are not the ones that would be published.
    """
    settings = settings or get_settings()
    tools = toolchain.ensure(
        backend, on_progress=lambda line: on_log("info", line), settings=settings, cancelled=cancelled
    )
    code = toolchain.code_path(settings=settings)
    listener = _Listener(on_progress, on_log)
    outcome = sandbox.run(
        [tools.python, "-P", "-m", f"converters.{backend}"],
        stdin=json.dumps(request, allow_nan=False).encode() + b"\n",
        read=[code, *read],
        write=write,
        work=work,
        limits=limits,
        on_line=listener.line,
        on_log=listener.log,
        cancelled=cancelled,
        on_memory=on_memory,
        env={"PYTHONPATH": str(code), "PYTHONHASHSEED": "0"},
        strict=settings.sandbox == "strict",
    )
    _check_tier(outcome.tier)
    listener.raise_failure(backend, outcome.returncode)
    verb = str(request.get("verb"))
    made = listener.made if verb == "convert" else []
    _named_once([name for one in made for name in (*one.files, *one.extras)])
    reply = Reply(
        outcome,
        tools,
        tuple(artifact(Path(request["out"]), one) for one in made),
        listener.last.get("described"),
        listener.last.get("reference"),
        listener.last.get("metrics"),
    )
    if not any(getattr(reply, name) for name in WHAT_A_VERB_GIVES.get(verb, ())):
        raise ConverterFailed(f"The {backend} converter ended without an answer to {verb!r}.", listener.hint)
    return reply


def _check_tier(tier: str) -> None:
    """The receipt and the card name the machine's fences: a run that had others is not what they say."""
    promised = str(sandbox.probe())
    if tier != promised:
        raise PhimillError(
            f"A converter ran in the sandbox tier {tier}, and this process promises {promised}.",
            "Start phimill again, so that it looks at the machine anew. `phimill doctor` shows the tier.",
        )


def artifact(out: Path, made: Made) -> Artifact:
    """Check and hash the files a converter claims to have made in `out`. Its process must have ended.

    Raises:
        ConverterFailed: a bad name or extension, a link, a second name for a file, or no plain file at all.
    """
    _named_once([*made.files, *made.extras])
    return Artifact(
        recipe=made.recipe,
        files=tuple(_file(out, name) for name in made.files),
        extras=tuple(_file(out, name) for name in made.extras),
        bits_per_weight=made.bits_per_weight,
        facts=made.facts,
    )


def _named_once(names: Sequence[str]) -> None:
    """Every file belongs to one artifact, or few bytes would be hours of hashing."""
    if len({name.casefold() for name in names}) != len(names):
        raise ConverterFailed("The converter named a file twice.", _HINT)


def _file(out: Path, name: str) -> ArtifactFile:
    path = out / _name(name)
    if path.resolve() != out.resolve() / name:
        raise ConverterFailed(f"{name} is a link or lies behind one.", _HINT)
    try:
        with open(path, "rb", opener=_open_itself) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise ConverterFailed(f"{name} is not a plain file with one name.", _HINT)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConverterFailed(f"The converter named {name}: {error.strerror}.", _HINT) from None
    return ArtifactFile(path=name, size=status.st_size, sha256=sha256)


def _open_itself(path: str, flags: int) -> int:
    """Open what the name stands for: not what a link leads to, and without waiting at a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _name(name: str) -> PurePosixPath:
    try:
        path = filenames.check(name)
    except SourceCorrupt:
        raise ConverterFailed(f"The converter named a file {plain(name)!r}.", _HINT) from None
    if path.suffix not in EXTENSIONS and not LICENCE.fullmatch(path.name):
        raise ConverterFailed(f"The converter made {name}; files of that kind are not published.", _HINT)
    return path


_HINT = "This is a fault of the converter, not of the model."


@dataclass(slots=True)
class _Listener:
    """Sorts what a converter says."""

    on_progress: Callable[[str, float, float, str], None]
    on_log: Callable[[str, str], None]
    made: list[Made] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))

    def line(self, text: str) -> None:
        try:
            event = EVENT.validate_json(text)
        except ValidationError:
            self.on_log("debug", plain(text))
            return
        match event:
            case Progress():
                self.on_progress(event.stage, event.done, event.total, event.unit)
            case Log():
                self.on_log(event.level, event.text)
            case Made() if len(self.made) < MAX_ARTIFACTS:
                self.made.append(event)
            case Described() | Reference() | Metrics() | Error():
                self.last[event.event] = event
            case _:
                self.on_log("debug", plain(text))

    def log(self, text: str) -> None:
        text = plain(text)
        if text:
            self.tail.append(text)
            self.on_log("debug", text)

    @property
    def hint(self) -> str:
        """The last thing it printed is the best clue there is."""
        return f"Its last words: {self.tail[-1]}" if self.tail else "It printed nothing."

    def raise_failure(self, backend: str, code: int) -> None:
        """Raise what the converter's own error, or else its exit code, says."""
        error: Error | None = self.last.get("error")
        if error is not None:
            raise _failure(error)
        if code == -signal.SIGKILL:
            raise ConverterFailed(
                f"The {backend} converter was killed by the system.",
                "Most likely memory ran out.",
            )
        if code < 0:
            raise ConverterFailed(f"The {backend} converter crashed ({_signal(-code)}).", self.hint)
        if code > 0:
            raise ConverterFailed(f"The {backend} converter ended with exit code {code}.", self.hint)


def _failure(error: Error) -> PhimillError:
    kind = error_classes()[error.code] if error.code in MAY_RAISE else ConverterFailed
    return kind(error.message or "The converter failed and did not say why.", error.hint)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
