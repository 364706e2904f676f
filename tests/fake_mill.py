"""A mill without a Hub, an engine or a converter: the same methods, and whatever a test puts in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from bot.advisor import Advice, Choice
from bot.builds import Build, BuildRequest, Failure, LogLine, Phase, Progress, Target, VariantResult
from bot.comparison import Compared
from bot.devices import device
from bot.errors import PhimillError, UsageError
from bot.fitting import Footprint
from bot.mill import Event
from bot.models import Needs, Precision, Release, RepoRef, SourceFile, Status, Traits, Verdict
from bot.planning import Plan
from bot.reader import CheckReport, Preview
from bot.recipes import Snippet
from bot.releases import ReleaseRow
from bot.search import Found
from bot.settings import Settings
from bot.visitor import OPERATOR, Visitor

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "microsoft/Phi-3.5-tiny-instruct"
TARGET = "phimill/Phi-3.5-tiny-instruct-GGUF"
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def release(repo: str = REPO) -> Release:
    return Release(
        repo=repo,
        sha=SHA,
        architecture="Phi3ForCausalLM",
        model_type="phi3",
        dtype="bfloat16",
        parameters=1_500_000,
        traits=Traits(),
        files=(SourceFile(path="model.safetensors", size=3_000_000, digest=SHA),),
    )


def verdict(recipe: str, status: Status = Status.SUPPORTED, reason: str = "") -> Verdict:
    needs = Needs(memory=2_000_000_000, disk=9_000_000, minutes=0.5, output=1_400_000)
    return Verdict(recipe=recipe, status=status, reasons=(reason,) if reason else (), needs=needs)


def narrowed(wanted: BuildRequest, asked: Sequence[str]) -> BuildRequest:
    """Of a request, what was asked for; all of it when nothing was named."""
    targets = [
        target.model_copy(update={"recipes": tuple(r for r in target.recipes if not asked or r in asked)})
        for target in wanted.targets
    ]
    return wanted.model_copy(update={"targets": tuple(target for target in targets if target.recipes)})


def request(*recipes: str, repo: str = REPO, backend: str = "gguf") -> BuildRequest:
    return BuildRequest(
        repo=repo,
        sha=SHA,
        backend=backend,
        namespace="phimill",
        toolchain="0" * 64,
        targets=(
            Target(
                repo=f"phimill/{repo.split('/')[1]}-GGUF",
                version="v1.0",
                recipes=recipes or ("gguf/int4", "gguf/int8"),
            ),
        ),
    )


def published(recipe: str, status: str = "published") -> VariantResult:
    return VariantResult.model_validate(
        {
            "recipe": recipe,
            "status": status,
            "repo": TARGET,
            "tag": "v1.0",
            "files": ("Phi-3.5-tiny-instruct-Q4_K_M.gguf",),
            "bytes": 1_423_000,
            "kl_mean": 0.0123,
            "kl_p99": 0.2,
            "top1": 0.934,
            "perplexity_ratio": 1.01,
        }
    )


def build(
    name: str = "1" * 32,
    phase: Phase = Phase.DONE,
    results: tuple[VariantResult, ...] = (),
    failure: Failure | None = None,
    progress: Progress | None = None,
    position: int | None = None,
    asked: BuildRequest | None = None,
) -> Build:
    return Build(
        id=f"{name}-1",
        request=asked or request(),
        phase=phase,
        person=True,
        created=NOON,
        results=results,
        failure=failure,
        progress=progress,
        position=position,
    )


def choice(recipe: str, left: int = 500_000_000, published: bool = True) -> Choice:
    return Choice(
        recipe=recipe,
        backend="gguf",
        title="INT4",
        precision=Precision.INT4,
        published=published,
        repo=TARGET if published else None,
        tag="v1.0" if published else None,
        kl_mean=0.0123 if published else None,
        needs=Footprint(weights=2_400_000_000, cache=537_000_000, runtime=541_000_000, total=3_478_000_000),
        left=left,
        caveats=("Mind the [RoPE].",),
        snippets=(
            Snippet(title="Python", language="python", code="run()\nagain()", install="pip install it"),
            Snippet(title="Shell", language="sh", code="other"),
        ),
    )


def advice(pick: Choice | None, runner_up: Choice | None = None, smallest: Choice | None = None) -> Advice:
    return Advice(
        repo=REPO,
        sha=SHA,
        device="phone",
        memory=8_000_000_000,
        usable=4_000_000_000,
        context=4096,
        pick=pick,
        runner_up=runner_up,
        smallest=smallest,
        why="It is the nearest.",
        notes=("A note.",),
    )


class FakeReader:
    """What a fake mill says to somebody."""

    def __init__(self, mill: FakeMill, by: Visitor) -> None:
        self._mill = mill
        self._by = by

    def check(self, text: str, namespace: str | None = None) -> CheckReport:
        self._mill.called("check", text, namespace)
        mill = self._mill
        return CheckReport(release=release(text), verdicts=mill.verdicts, published=mill.there, places=mill.places)

    def pull(self, repo: str) -> tuple[Snippet, ...]:
        self._mill.called("pull", repo)
        return self._mill.ways

    def advise(
        self,
        text: str,
        device_id: str,
        memory: int | None = None,
        context: int | None = None,
        namespace: str | None = None,
    ) -> Advice:
        self._mill.called("advise", text, device_id, memory, context, namespace)
        device(device_id)
        return self._mill.answer

    def compare(self, text: str) -> tuple[Compared, ...]:
        self._mill.called("compare", text)
        return self._mill.compared

    def plan(
        self, text: str, asked: Sequence[str] = (), namespace: str | None = None, *, private: bool = False
    ) -> Plan:
        self._mill.called("plan", text, tuple(asked), namespace)
        whose = {"asker": self._by.name, "private": private}
        return Plan(
            namespace=namespace or self._by.name or "phimill",
            release=release(text.partition("@")[0]),
            verdicts=self._mill.verdicts,
            builds=tuple(narrowed(r, asked).model_copy(update=whose) for r in self._mill.planned),
            repos=(TARGET,),
            results=self._mill.standing,
        )

    def preview(self, plan: Plan) -> tuple[Preview, ...]:
        return (Preview(repo=TARGET, files=("README.md",), card="# A card\n"),)


class FakeMill:
    """Set the attributes that a test is about; `calls` says what was asked of it."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(namespace="phimill")
        self.verdicts: tuple[Verdict, ...] = (verdict("gguf/int4"), verdict("gguf/int8"))
        self.planned: tuple[BuildRequest, ...] = (request(),)
        self.standing: tuple[VariantResult, ...] = ()
        self.known: list[Build] = []
        self.lines: list[LogLine] = []
        self.ending = build(results=(published("gguf/int4"), published("gguf/int8")))
        self.rows: tuple[ReleaseRow, ...] = ()
        self.answer = advice(choice("gguf/int4"), choice("gguf/q4_0", 600_000_000, published=False))
        self.compared: tuple[Compared, ...] = ()
        self.findable: tuple[Found, ...] = (Found(repo=REPO, release=True), Found(repo="ann/tuned-phi", release=False))
        self.ways: tuple[Snippet, ...] = (Snippet(title="Shell", language="sh", code="run it", install="get it"),)
        self.finished: tuple[str, ...] = ()
        self.there: dict[str, str] = {"gguf/int4": "v1.0"}
        self.places: dict[str, str] = {"gguf/int4": TARGET}
        self.error: PhimillError | None = None
        self.interruption: BaseException | None = None
        self.paused = False
        self.works = True
        self.calls: list[tuple[object, ...]] = []
        self.closed = False

    def called(self, *call: object) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def reader(self, by: Visitor = OPERATOR) -> FakeReader:
        return FakeReader(self, by)

    def search(self, text: str, *, anonymous: bool = False) -> tuple[Found, ...]:
        self.called("search", text)
        return tuple(one for one in self.findable if text.lower() in one.repo.lower())

    def namespaces(self) -> tuple[str, ...]:
        self.called("namespaces")
        return ("phimill", "millbot")

    def steps(self, build_id: str) -> tuple[str, ...]:
        return self.finished

    def submit(self, plan: Plan, *, person: bool, by: Visitor = OPERATOR) -> tuple[Build, ...]:
        self.called("submit", person)
        begun = [
            build(str(number) * 32, phase=Phase.WAITING, asked=asked, position=1)
            for number, asked in enumerate(plan.builds, 1)
        ]
        self.known += begun
        return tuple(begun)

    def follow(self, build_ids: Sequence[str], tend: Callable[[], None] = lambda: None) -> Iterator[Event]:
        tend()
        for one in build_ids:
            yield one, LogLine(number=1, at=NOON, level="info", stage="fetch", text="Fetching the source.")
            yield one, Progress(stage="convert", recipe="gguf/int4", done=1, total=2, unit="variants", eta=3)
            if self.interruption is not None:
                raise self.interruption
            yield one, self.ending.model_copy(update={"id": one})

    def builds(self, limit: int = 50) -> tuple[Build, ...]:
        self.called("builds", limit)
        return tuple(self.known[:limit])

    def unfinished(self) -> tuple[Build, ...]:
        return tuple(one for one in self.known if not one.over)

    def lend(self, by: Visitor) -> None:
        self.called("lend", by.name)

    def build(self, id_prefix: str, seen: Callable[[BuildRequest], bool] = lambda _: True) -> Build:
        self.called("build", id_prefix)
        for one in self.known:
            if one.id.startswith(id_prefix) and seen(one.request):
                return one
        raise UsageError(f"{id_prefix!r} is not a build.", "`phimill status` lists them.")

    def log(self, build_id: str, after: int = 0) -> tuple[LogLine, ...]:
        return tuple(line for line in self.lines if line.number > after)

    def cancel(self, id_prefix: str) -> Build:
        self.called("cancel", id_prefix)
        return self._change(id_prefix, Phase.CANCELLED)

    def retry(self, id_prefix: str, *, by: Visitor = OPERATOR) -> Build:
        self.called("retry", id_prefix)
        return self._change(id_prefix, Phase.WAITING)

    def _change(self, id_prefix: str, phase: Phase) -> Build:
        old = self.build(id_prefix)
        new = old.model_copy(update={"phase": phase})
        self.known[self.known.index(old)] = new
        return new

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def reconcile(self, only: RepoRef | None = None) -> tuple[Build, ...]:
        self.called("reconcile", only)
        return tuple(self.known)

    def drain(self) -> None:
        self.called("drain")

    @contextmanager
    def working(self) -> Iterator[None]:
        self.calls.append(("working",))
        yield
        self.calls.append(("stopped working",))

    def queued(self) -> Mapping[tuple[str, Phase], int]:
        self.called("queued")
        return Counter((one.request.backend, one.phase) for one in self.known if not one.over)

    def someone_works(self) -> bool:
        self.called("someone_works")
        return self.works

    def others_working(self) -> bool:
        return False

    @contextmanager
    def helping(self) -> Iterator[Callable[[], None]]:
        if self.others_working():
            yield lambda: self.called("tend")
            return
        with self.working():
            yield lambda: self.called("tend")

    @contextmanager
    def watching(self) -> Iterator[None]:
        yield

    def releases(self) -> tuple[ReleaseRow, ...]:
        self.called("releases")
        return self.rows

    def close(self) -> None:
        self.closed = True
