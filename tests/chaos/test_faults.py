"""Whatever the Hub and the disk do to a build, what is published in the end is complete, right, and there once.

A state machine makes up how it goes: faults of the Hub's and of the disk's, builds that die between two steps, a
source that moves on. Real are the Hub, the client, the publisher and the steps of a build; the converter and the
card's plot, which takes longest, are not.

PHIMILL_TEST_FAULTS says how many stories are made up; without it there are a few, and always the same.
"""

from __future__ import annotations

import os
import types
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import phi_repos
import press
import pytest
import stamina
import two_repos
from faulty_disk import FaultyDisk
from faulty_hub import FAULTS, Fault, FaultyHub
from huggingface_hub import HfApi
from huggingface_hub.utils import _http
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from bot import plot, verify
from bot.build import Builder
from bot.builds import BuildRequest
from bot.errors import PhimillError
from bot.hub import Hub
from bot.journal import Journal
from bot.localhub import RunningHub
from bot.planning import Planning
from bot.publisher import Publisher
from bot.settings import Settings
from bot.steps import Interrupted, Steps
from bot.workspace import Workspace

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(4 * 3600),
]

STORIES = int(os.environ.get("PHIMILL_TEST_FAULTS", "10"))
ASKED = ("twin/fp32", "twin/int4")
TRIES = 4  # until everything is done, once nothing goes wrong any more


class Died(BaseException):
    """The worker was killed here."""


@dataclass
class World:
    """A mill before a Hub with faults."""

    builder: Builder
    planning: Planning
    settings: Settings
    journal: Journal
    between: FaultyHub
    disk: FaultyDisk
    straight: HfApi
    source: HfApi
    folder: Path
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)  # by build, what its steps gave

    def release(self, name: str) -> None:
        self.source.create_repo(name)
        self.source.upload_folder(repo_id=name, folder_path=self.folder)

    def build(self, name: str, steps: int = 1000) -> int:
        """Do all that is to be done for a release, as far as it goes: the worker dies after so many steps. How many
        builds there were.
        """
        try:
            requests = self.planning.plan(name, ASKED, "phimill").builds
            for request in requests:
                self._one(request, steps)
        except (PhimillError, Interrupted, Died):
            return 1
        return len(requests)

    def _one(self, request: BuildRequest, steps: int) -> None:
        kept = self.kept.setdefault(request.key, {})
        until = len(kept) + steps

        def once(step: str, action: Any) -> dict[str, Any]:
            if step not in kept:
                if len(kept) >= until:
                    raise Died
                kept[step] = action()
                assert kept[step].get("failure", {}).get("code") != "error", "nothing happens that nobody foresaw"
            return dict(kept[step])

        self.builder(request, Steps(request.key, self.journal, once, lambda: False, lambda: False))
        del self.kept[request.key]  # it has ended, well or not: what is still to be done is another build

    def looks_right(self, name: str) -> None:
        repo = f"phimill/{name.split('/')[1]}-twin"
        hub = Hub(self.between.url, None)
        tags = [ref.name for ref in self.straight.list_repo_refs(repo).tags]
        assert tags
        for tag in tags:
            checked = verify.verify(hub, verify.published(hub, f"{repo}@{tag}"))
            assert [str(finding) for finding in checked.findings if not finding.warning] == []
        state = verify.published(hub, repo).publication
        assert state is not None
        assert state.complete
        assert [variant.recipe for variant in state.variants] == sorted(ASKED)
        assert state.source_sha == self.source.model_info(name).sha
        *commits, _creation = self.straight.list_repo_commits(repo, revision=state.version)
        # A source that moves on while its variants are made has some of them published without a tag.
        made = Counter((commit.title, self._source_of(hub, f"{repo}@{commit.commit_id}")) for commit in commits)
        assert [commit for commit, times in made.items() if times > 1] == []

    def _source_of(self, hub: Hub, commit: str) -> str:
        publication = verify.published(hub, commit).publication
        assert publication is not None
        return publication.source_sha


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    two_repos.install(tmp_path / "twin", monkeypatch)
    press.install(monkeypatch)
    monkeypatch.setattr(plot, "draw", lambda state: state.model_dump_json().encode())  # drawing takes the longest
    # Whoever waits before they try again would wait for hours here.
    monkeypatch.setattr(_http, "time", types.SimpleNamespace(sleep=lambda _: None))
    stamina.set_testing(True, attempts=10, cap=True)
    settings = Settings(home=tmp_path / "home", disk_floor=0, threads=2)
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    with (
        FaultyDisk(settings.home) as disk,
        RunningHub(tmp_path / "hub") as running,
        FaultyHub(running.url) as between,
    ):
        disk.install(monkeypatch)
        for name in ("microsoft", "millbot"):
            running.config.add_user(name)
        running.config.add_org("phimill", {"millbot": "admin"})
        token = running.token("millbot")
        hub = Hub(between.url, token)
        publisher = Publisher(hub, lambda: token)
        yield World(
            Builder(settings, hub, publisher), Planning(settings, hub, publisher), settings, journal, between, disk,
            HfApi(endpoint=running.url, token=False), HfApi(endpoint=running.url, token=running.token("microsoft")),
            phi_repos.write("phi35_mini", tmp_path / "phi"),
        )  # fmt: skip
    stamina.set_testing(False)
    journal.close()


on_a_disk_of_its_own = precondition(lambda story: story.world.disk.mounted)


class Story(RuleBasedStateMachine):
    """One release, and what happens to it."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.name = f"microsoft/phi-{uuid.uuid4().hex[:12]}"
        self.moves = 0

    @initialize(coming=st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 6)), min_size=1, max_size=4))
    def a_release_is_built_while_things_go_wrong(self, coming: list[tuple[Fault, int]]) -> None:
        self.world.release(self.name)
        for fault, after in coming:
            self.world.between.expect(fault, after)
        self.world.build(self.name)

    @rule(fault=st.sampled_from(FAULTS), after=st.integers(0, 10))
    def something_will_go_wrong(self, fault: Fault, after: int) -> None:
        self.world.between.expect(fault, after)

    @rule()
    def it_is_built(self) -> None:
        self.world.build(self.name)

    @rule(steps=st.integers(0, 8))
    def it_is_built_until_the_worker_dies(self, steps: int) -> None:
        self.world.build(self.name, steps)

    @on_a_disk_of_its_own
    @rule(left=st.sampled_from((0, 4096, 2**16, 2**18, 2**20)))
    def the_disk_fills_up(self, left: int) -> None:
        self.world.disk.fill(left)

    @on_a_disk_of_its_own
    @rule()
    def the_disk_can_only_be_read(self) -> None:
        self.world.disk.protect()

    @on_a_disk_of_its_own
    @rule()
    def the_disk_is_slow(self) -> None:
        self.world.disk.slow_down()

    @on_a_disk_of_its_own
    @rule()
    def the_disk_is_well_again(self) -> None:
        self.world.disk.calm()

    @precondition(lambda self: self.moves < 2)
    @rule()
    def the_source_moves_on(self) -> None:
        self.moves += 1
        words = f'{{"eos_token_id": {self.moves}}}'.encode()
        self.world.source.upload_file(repo_id=self.name, path_in_repo="generation_config.json", path_or_fileobj=words)

    def teardown(self) -> None:
        """The Hub is well again, and somebody looks what is left to do."""
        self.world.between.calm()
        self.world.disk.calm()
        for _ in range(TRIES):
            if not self.world.build(self.name):
                break
        else:
            pytest.fail("there is always something left to do")
        self.world.looks_right(self.name)
        Workspace(self.world.settings).sweep(retention=0)


def test_whatever_goes_wrong_what_is_published_is_complete_right_and_there_once(world: World) -> None:
    told = hypothesis.settings(
        max_examples=STORIES, stateful_step_count=8, deadline=None, print_blob=True,
        derandomize="PHIMILL_TEST_FAULTS" not in os.environ,
    )  # fmt: skip
    run_state_machine_as_test(type("Told", (Story,), {"world": world}), settings=told)
    assert len(world.between.struck) >= STORIES // 2, "faults do happen"
    assert world.disk.struck or not world.disk.mounted, "to the disk too"
