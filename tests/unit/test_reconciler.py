"""What the clock begins again, and what it leaves to a person."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_mill
import pytest
import time_machine
import two_repos
from two_repos import DESK, MODEL, WEB

from bot import recipes, reconciler, toolchain
from bot.builds import Build, BuildRequest, Failure, Phase, Target
from bot.card import summary_from_card_data
from bot.catalog import Candidate
from bot.errors import AccessDenied, ConverterFailed, HubUnreachable, NotEnoughRoom, PhimillError, VerdictRefused
from bot.hub import RepoSummary
from bot.journal import Journal
from bot.planning import BackendPlan
from bot.publication import RecipeMark, SourceDigests, Summary
from bot.reconciler import AGAIN_SECONDS, OurRepos, Reconciler, standing
from bot.settings import Settings

REPO = "microsoft/Phi-x"
REQUEST = BuildRequest(
    repo=REPO,
    sha="1" * 40,
    backend="gguf",
    namespace="phimill",
    toolchain="t",
    targets=(Target(repo="phimill/Phi-x-GGUF", version="v1.0", recipes=("gguf/int4",)),),
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
    monkeypatch.setattr(reconciler.catalog, "release", lambda _hub, ref: fake_mill.release(ref.repo))
    planning: Any = SimpleNamespace(
        plan_backend=lambda *_args, **_kw: BackendPlan(repos=("r",), verdicts=(), request=REQUEST, results=())
    )
    hub: Any = SimpleNamespace(list_org=lambda _org: [])
    publisher: Any = None
    engine: Any = queue
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    settings = Settings(home=tmp_path, backends=("gguf",))
    yield Reconciler(settings, hub, publisher, engine, journal, planning, "phimill")
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


def test_recipes_for_releases_of_another_kind_are_noted_with_the_reason(
    watch: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = fake_mill.release(REPO).model_copy(update={"dtype": "float16"})
    monkeypatch.setattr(reconciler.catalog, "release", lambda *_: half)
    watch.reconcile()
    noted = json.loads(watch._journal.note(f"unsuited:{REPO}:gguf") or "")
    assert noted == {"gguf/bf16": "It is for bfloat16 sources; this one is float16."}


# --- several repos of one backend ----------------------------------------------------------------------------

DIGESTS = SourceDigests(weights="a" * 64, assets="b" * 64, readme="c" * 64)


def block(*names: str, source: str = MODEL, backend: str = "twin", complete: bool = True) -> Summary:
    """What the card of a repo with these variants says."""
    lock = toolchain.lock_digest(backend)
    marks = {
        recipe.id: RecipeMark(digest=recipe.digest, toolchain=lock, made_from=DIGESTS.made_from, version="v1.0")
        for recipe in recipes.by_id(names)
    }
    return Summary(
        backend=backend, source=source, source_sha="1" * 40, digests=DIGESTS, version="v1.0", complete=complete,
        recipes=marks,
    )  # fmt: skip


def listed(repo: str, said: Summary | None) -> RepoSummary:
    card = {} if said is None else {"phimill": said.model_dump(mode="json")}
    return RepoSummary(repo=repo, sha="e" * 40, card=card)


def listing(*repos: RepoSummary) -> Any:
    return listing_of(repos)


def listing_of(repos: Sequence[RepoSummary]) -> Any:
    """A Hub whose list may change."""
    return SimpleNamespace(list_org=lambda _org: list(repos))


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recipes.Backend:
    return two_repos.install(tmp_path / "twin", monkeypatch)


@pytest.mark.usefixtures("twin")
def test_what_stands_is_told_apart_by_source_backend_and_repo() -> None:
    desk, web, other = block("twin/int4"), block("twin/web-int4"), block("twin/int4", source="microsoft/other")
    hub = listing(listed(DESK, desk), listed(WEB, web), listed("phimill/other-twin", other))
    assert standing(hub, "phimill") == {
        (MODEL, "twin"): {DESK: desk, WEB: web},
        ("microsoft/other", "twin"): {"phimill/other-twin": other},
    }


@pytest.mark.usefixtures("twin")
def test_what_a_repo_says_is_read_again_when_it_has_another_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(
        reconciler, "summary_from_card_data", lambda card: read.append(card) or summary_from_card_data(card)
    )
    there = [listed(DESK, block("twin/int4")), listed("phimill/notes", None)]
    ours = OurRepos(listing_of(there), "phimill")
    first = ours.look()
    assert [(repo.repo, said) for repo, said in first] == [(DESK, block("twin/int4"))]
    assert ours.look() == first
    assert len(read) == 2
    there[0] = listed(DESK, block("twin/fp32")).model_copy(update={"sha": "f" * 40})
    assert [said for _, said in ours.look()] == [block("twin/fp32")]
    assert len(read) == 3
    there.clear()
    assert ours.look() == []


@pytest.mark.usefixtures("twin")
def test_a_repo_that_no_recipe_publishes_to_is_not_ours_whatever_its_card_says() -> None:
    copied = block("twin/int4")
    hub = listing(listed("phimill/a-copy", copied), listed("phimill/other-twin", copied), listed(DESK, None))
    assert standing(hub, "phimill") == {}


@pytest.mark.usefixtures("twin")
def test_a_card_of_a_backend_that_this_mill_does_not_have_is_left_alone() -> None:
    newer = block("twin/int4").model_copy(update={"backend": "triplet"})
    assert standing(listing(listed(DESK, newer)), "phimill") == {}


@pytest.fixture
def twins(watch: Reconciler, twin: recipes.Backend, monkeypatch: pytest.MonkeyPatch) -> Reconciler:
    """The watch on one release, with all of our repos tagged."""
    candidate = Candidate(repo=MODEL, sha="1" * 40, architecture="Phi3ForCausalLM")
    monkeypatch.setattr(reconciler.catalog, "releases", lambda _hub, _orgs: [candidate])
    monkeypatch.setattr(watch, "_settings", watch._settings.model_copy(update={"backends": None}))
    watch._tagged |= {f"{repo}@v1.0" for repo in (DESK, WEB)}
    return watch


def asked(queue: Queue, watch: Reconciler, *repos: RepoSummary) -> bool:
    """Whether a look at these repos of ours begins a build."""
    before = len(queue.begun)
    watch._hub = listing(*repos)
    watch.reconcile()
    return len(queue.begun) > before


def test_a_release_is_left_alone_only_when_every_repo_of_it_stands(
    twins: Reconciler, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler.catalog, "release", lambda *_: pytest.fail("there was no need to look"))
    web = block("twin/web-int4", "twin/web-fp32", "twin/web-moe")
    assert not asked(queue, twins, listed(DESK, block("twin/int4", "twin/fp32")), listed(WEB, web))


@pytest.mark.parametrize("there", [[], [DESK], [WEB]], ids=["nothing", "one", "the other"])
def test_a_repo_that_is_missing_is_built(twins: Reconciler, queue: Queue, there: list[str]) -> None:
    states = {
        DESK: block("twin/int4", "twin/fp32"),
        WEB: block("twin/web-int4", "twin/web-fp32", "twin/web-moe"),
    }
    assert asked(queue, twins, *(listed(repo, states[repo]) for repo in there))


def test_a_repo_that_is_half_done_is_gone_on_with(twins: Reconciler, queue: Queue) -> None:
    web = block("twin/web-int4", "twin/web-fp32", "twin/web-moe", complete=False)
    assert asked(queue, twins, listed(DESK, block("twin/int4", "twin/fp32")), listed(WEB, web))


def test_what_somebody_had_made_beside_the_defaults_is_kept_up_to_date(
    twins: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []

    def plan(_backend: object, _release: object, chosen: list[Any], *_args: object, **_kw: object) -> BackendPlan:
        wanted.extend(recipe.id for recipe in chosen)
        return BackendPlan(repos=(), verdicts=(), request=None, results=())

    monkeypatch.setattr(twins._planning, "plan_backend", plan)
    twins._hub = listing(listed(DESK, block("twin/int8")))
    twins.reconcile()
    assert wanted == ["twin/int4", "twin/fp32", "twin/int8", "twin/web-int4", "twin/web-fp32"]
