"""A converter that needs no model, and a mill around it whose builds run in the test's own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import phi_repos
import pytest
import two_repos
from huggingface_hub import HfApi
from two_repos import MODEL

from bot import converter, toolchain
from bot.build import Builder
from bot.builds import BuildRequest
from bot.converter_events import Made, Metrics, Reference
from bot.errors import ConverterFailed
from bot.hub import Hub
from bot.journal import Journal
from bot.localhub import RunningHub
from bot.mill import Mill as RealMill
from bot.planning import Planning
from bot.publication import Publication
from bot.publisher import Publisher
from bot.sandbox import Outcome as Ended
from bot.settings import Settings
from bot.signing import Signer
from bot.steps import Outcome, Steps

ROOT = Path(__file__).parents[1]
MEASURED = {
    "kl_mean": 1e-6, "kl_p99": 1e-5, "top1": 0.99, "perplexity_ratio": 1.0, "windows": 8, "window_tokens": 256,
    "finite": True, "same_end_tokens": True, "tokenizer_agrees": True,
}  # fmt: skip


@dataclass
class Press:
    """A converter that needs no model: a file named after the recipe, and the figures that a test wants."""

    kl: dict[str, float] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _recipe: None

    def __call__(self, backend: str, request: dict[str, Any], **_: object) -> converter.Reply:
        made: dict[str, Any] = {}
        if backend == "reference":
            self.calls.append("reference")
            _keep(request["out"])
            made["reference"] = Reference(
                event="reference", windows=8, window_tokens=256, vocabulary=320, perplexity=9.0, end_tokens=(2,)
            )
        elif request["verb"] == "convert":
            made["artifacts"] = (self._convert(request),)
        else:
            made["metrics"] = self._evaluate(request)
        tools: Any = None
        return converter.Reply(Ended(0, "limits", peak_memory=1000, wall=0.1, cpu=0.1), tools, **made)

    def _convert(self, request: dict[str, Any]) -> Any:
        recipe, out = request["recipe"], Path(request["out"])
        self.before(recipe["id"])
        self.calls.append(f"convert {recipe['id']}")
        if recipe["id"] in self.breaks:
            raise ConverterFailed("It broke.")
        name, notes = recipe["file"].format(m=request["model_name"]), f"{recipe['id'].split('/')[1]}.txt"
        (out / name).write_text(recipe["id"])
        (out / notes).write_text("notes")
        said = Made(event="artifact", recipe=recipe["id"], files=(name,), extras=(notes,), bits_per_weight=4.0)
        return converter.artifact(out, said)

    def _evaluate(self, request: dict[str, Any]) -> Metrics:
        recipe = Path(request["artifact"]).read_text()
        self.calls.append(f"evaluate {recipe}")
        if "save_baseline" in request:
            _keep(request["save_baseline"])
        against = self.kl.get(f"{recipe} against its baseline", 1e-6) if "baseline" in request else None
        return Metrics(
            event="metrics",
            values={**MEASURED, "kl_mean": self.kl.get(recipe, 1e-6), "baseline_kl_mean": against},
        )

    def converted(self) -> list[str]:
        return [call.removeprefix("convert ") for call in self.calls if call.startswith("convert")]


def install(monkeypatch: pytest.MonkeyPatch) -> Press:
    """Convert with a press from now on, and without any toolchain."""
    press = Press()
    monkeypatch.setattr(converter, "call", press)
    monkeypatch.setattr(toolchain, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(toolchain, "named_versions", lambda *_, **__: {"press": "1.0"})
    monkeypatch.setattr(toolchain, "code_path", lambda **_: ROOT)
    return press


@contextmanager
def standing(folder: Path, monkeypatch: pytest.MonkeyPatch, signer: Signer | None = None) -> Iterator[Mill]:
    """A mill of "millbot" on a Hub of its own, publishing for "phimill", whose builds run when the test says so."""
    two_repos.install(folder / "twin", monkeypatch)
    made = install(monkeypatch)
    settings = Settings(home=folder / "home", disk_floor=0, threads=2)
    journal = Journal(f"sqlite:///{folder / 'journal.sqlite'}")
    with RunningHub(folder / "hub") as running:
        for name in ("microsoft", "millbot"):
            running.config.add_user(name)
        running.config.add_org("phimill", {"millbot": "admin"})
        source = phi_repos.write("phi35_mini", folder / "phi")
        token = running.token("millbot")
        hub = Hub(running.url, token)
        publisher = Publisher(hub, lambda: token, signer)
        yield Mill(
            Builder(settings, hub, publisher), Planning(settings, hub, publisher), publisher, settings, journal, made,
            HfApi(endpoint=running.url, token=token), source,
            lambda: phi_repos.upload(running.url, running.token("microsoft"), MODEL, source),
        )  # fmt: skip
    journal.close()


@contextmanager
def working(folder: Path, monkeypatch: pytest.MonkeyPatch, hub: RunningHub) -> Iterator[RealMill]:
    """The real mill of "millbot" on a Hub, watching "microsoft" for "phimill", which converts with a press."""
    two_repos.install(folder / "twin", monkeypatch)
    for name in ("microsoft", "millbot"):
        hub.config.add_user(name)
    hub.config.add_org("phimill", {"millbot": "admin"})
    monkeypatch.setattr(Settings, "endpoint", hub.url)  # that of huggingface_hub is read once, at its import
    monkeypatch.setenv("HF_TOKEN", hub.token("millbot"))
    mill = RealMill(Settings(home=folder / "home", namespace="phimill", watch=("microsoft",), disk_floor=0))
    with mill.working():
        yield mill
    mill.close()


def _keep(folder: str) -> None:
    Path(folder).mkdir()
    (Path(folder) / "logprobs.bin").write_bytes(b"figures")


@dataclass
class Mill:
    """A mill of one test, whose builds run in the test's own thread."""

    builder: Builder
    planning: Planning
    publisher: Publisher
    settings: Settings
    journal: Journal
    press: Press
    api: HfApi
    folder: Path
    release: Callable[[], str]
    kept: dict[str, Any] = field(default_factory=dict)

    def plan(self, *asked: str) -> BuildRequest:
        [request] = self.planning.plan(MODEL, asked, "phimill").builds
        return request

    def build(self, request: BuildRequest) -> Outcome:
        def once(name: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            if (key := f"{request.key} {name}") not in self.kept:
                self.kept[key] = action()
            return dict(self.kept[key])

        steps = Steps(request.key, self.journal, once, lambda: False, lambda: False)
        return self.builder(request, steps)

    def state(self, repo: str) -> Publication:
        found = self.publisher.head(repo).publication
        assert found is not None
        return found

    def commits(self, repo: str) -> list[str]:
        return [c.title for c in reversed(self.api.list_repo_commits(repo))]

    def tags(self, repo: str) -> tuple[str, ...]:
        return self.publisher.tags(repo) if self.api.repo_exists(repo) else ()
