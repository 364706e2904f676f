"""What the clock begins again, and what it leaves to a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine

from bot import reconciler
from bot.builds import Build, Failure
from bot.catalog import Candidate
from bot.errors import AccessDenied, ConverterFailed, HubUnreachable, NotEnoughRoom, PhimillError, VerdictRefused
from bot.journal import Journal
from bot.models import BuildRequest, Phase
from bot.planning import BackendPlan
from bot.reconciler import AGAIN_SECONDS, Reconciler
from bot.settings import Settings

REPO = "microsoft/Phi-x"
REQUEST = BuildRequest(
    repo=REPO,
    sha="1" * 40,
    backend="gguf",
    recipes=("gguf/int4",),
    namespace="phimill",
    toolchain="t",
    version="v1.0",
)


class Queue:
    """An engine that remembers what it was given and ends every build as told."""

    def __init__(self) -> None:
        self.begun: list[BuildRequest] = []
        self.ends: tuple[Phase, PhimillError | None] = (Phase.DONE, None)

    def latest(self, request: BuildRequest) -> Build | None:
        phase, error = self.ends
        failure = Failure.of(error) if error else None
        now = datetime.now(UTC)
        return (
            Build(id="b-1", request=request, phase=phase, person=False, created=now, failure=failure)
            if (self.begun)
            else None
        )

    def submit(self, request: BuildRequest, *, person: bool) -> Build:
        assert not person
        self.begun.append(request)
        build = self.latest(request)
        assert build is not None
        return build


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as traveller:
        yield traveller


@pytest.fixture
def watch(queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reconciler]:
    candidate = Candidate(repo=REPO, sha="1" * 40, architecture="Phi3ForCausalLM")
    monkeypatch.setattr(reconciler.catalog, "releases", lambda _hub, _orgs: [candidate])
    monkeypatch.setattr(reconciler.catalog, "release", lambda _hub, ref: ref)
    planning: Any = SimpleNamespace(
        plan_backend=lambda *_args, **_kw: BackendPlan(repo="r", verdicts=(), request=REQUEST, results=())
    )
    hub: Any = SimpleNamespace(list_org=lambda _org: [])
    publisher: Any = None
    engine: Any = queue
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    yield Reconciler(Settings(home=tmp_path), hub, publisher, engine, journal, planning, "phimill")
    journal.close()


@pytest.mark.parametrize("error", [NotEnoughRoom("Full."), AccessDenied("Old token.")])
def test_what_a_person_can_mend_is_tried_again_after_a_while(
    watch: Reconciler, queue: Queue, clock: time_machine.Traveller, error: PhimillError
) -> None:
    watch.reconcile()
    queue.ends = (Phase.FAILED, error)
    for _ in range(3):
        watch.reconcile()
    assert len(queue.begun) == 1
    clock.shift(timedelta(seconds=AGAIN_SECONDS + 1))
    watch.reconcile()
    assert len(queue.begun) == 2
    watch.reconcile()
    assert len(queue.begun) == 2


@pytest.mark.parametrize(
    "ends",
    [(Phase.FAILED, ConverterFailed("It broke.")), (Phase.CANCELLED, None)],
    ids=["failed for good", "cancelled"],
)
def test_what_is_over_for_good_is_left_to_a_person(
    watch: Reconciler, queue: Queue, clock: time_machine.Traveller, ends: tuple[Phase, PhimillError | None]
) -> None:
    watch.reconcile()
    queue.ends = ends
    watch.reconcile()
    clock.shift(timedelta(days=30))
    watch.reconcile()
    assert len(queue.begun) == 1


def test_a_hub_that_was_away_is_tried_again_at_the_next_look(watch: Reconciler, queue: Queue) -> None:
    watch.reconcile()
    queue.ends = (Phase.FAILED, HubUnreachable("It is away."))
    watch.reconcile()
    assert len(queue.begun) == 2


def test_a_release_that_is_refused_is_looked_at_once(
    watch: Reconciler, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def refuse(*_: object) -> None:
        looks.append(1)
        raise VerdictRefused("There are no safetensors.")

    monkeypatch.setattr(reconciler.catalog, "release", refuse)
    watch.reconcile()
    watch.reconcile()
    assert (len(looks), queue.begun) == (1, [])
    assert watch._journal.note(f"why:{REPO}:gguf") == "There are no safetensors."


def test_a_hub_that_goes_away_in_a_look_ends_the_look(watch: Reconciler, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise HubUnreachable("It is away.")

    monkeypatch.setattr(reconciler.catalog, "release", away)
    with pytest.raises(HubUnreachable):
        watch.reconcile()
