"""Everybody against every account: what is published is published by whoever may, and nobody else changes anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import phi_repos
import press
import pytest
import two_repos
from huggingface_hub import HfApi
from pydantic import SecretStr

from bot import accounts
from bot.builds import Phase
from bot.desk import Desk
from bot.errors import AccessDenied, PhimillError
from bot.localhub import RunningHub
from bot.visitor import OPERATOR, STRANGER, Visitor

ACCOUNTS = ("ada", "eve", "lovelace", "millbot", "phimill", "microsoft")
# Who may publish where. "lovelace" is an organisation that Ada runs and Eve is a reading member of.
MAY = {
    "operator": {"millbot", "phimill"},
    "ada": {"ada", "lovelace"},
    "eve": {"eve"},
    "ada with a token that reads": set(),
    "stranger": set(),
    "eve with ada's name": set(),
    "the operator's name with eve's token": set(),
    "somebody with a token that nobody has": set(),
}


class World(NamedTuple):
    desk: Desk
    hub: RunningHub
    people: dict[str, Visitor]

    def everything(self) -> dict[str, list[str]]:
        """Every repo on the Hub and its commits, as its owner sees it."""
        found: dict[str, list[str]] = {}
        for account in ACCOUNTS:
            seer = {"lovelace": "ada", "phimill": "millbot"}.get(account, account)
            api = HfApi(endpoint=self.hub.url, token=self.hub.token(seer))
            for model in api.list_models(author=account):
                found[model.id] = [commit.commit_id for commit in api.list_repo_commits(model.id)]
        return found

    def ask(self, who: str, account: str | None, **more: Any) -> set[str]:
        """Convert, as this person, to this account; returns the repos it went to."""
        visitor = self.people[who]
        plan = self.desk.plan(visitor, two_repos.MODEL, [], account, **more)
        builds = self.desk.submit(visitor, plan)
        self.desk.mill.drain()
        assert [self.desk.build(visitor, build.id).phase for build in builds] == [Phase.DONE] * len(builds)
        return set(plan.repos)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    press.install(monkeypatch)
    with RunningHub(tmp_path / "hub") as hub:
        for name in ("ada", "eve"):
            hub.config.add_user(name)
        hub.config.add_org("lovelace", {"ada": "admin", "eve": "read"})
        with press.working(tmp_path, monkeypatch, hub) as mill:
            source = phi_repos.write("phi35_mini", tmp_path / "phi")
            phi_repos.upload(hub.url, hub.token("microsoft"), two_repos.MODEL, source)
            yield World(Desk(mill), hub, everybody(hub))
    accounts.accounts.cache_clear()


def everybody(hub: RunningHub) -> dict[str, Visitor]:
    def with_token(name: str, token: str) -> Visitor:
        return Visitor(name=name, token=SecretStr(token), address="192.0.2.1")

    return {
        "operator": OPERATOR,
        "ada": with_token("ada", hub.token("ada")),
        "eve": with_token("eve", hub.token("eve")),
        "ada with a token that reads": with_token("ada", hub.token("ada", "read")),
        "stranger": STRANGER,
        "eve with ada's name": with_token("ada", hub.token("eve")),
        "the operator's name with eve's token": with_token("millbot", hub.token("eve")),
        "somebody with a token that nobody has": with_token("ada", "hf_nobody"),
    }


@pytest.mark.parametrize("who", MAY)
def test_everybody_publishes_where_they_may_and_changes_nothing_elsewhere(world: World, who: str) -> None:
    for account in ACCOUNTS:
        before = world.everything()
        if account in MAY[who]:
            there = {f"{account}/phi-twin", f"{account}/phi-twin-web"}
            assert world.ask(who, account) == there
            assert world.everything().keys() - before.keys() == there
        else:
            with pytest.raises(AccessDenied):
                world.ask(who, account)
            assert world.everything() == before
    assert before.items() <= world.everything().items(), "what was there is as it was"


@pytest.mark.parametrize("who", ["ada", "eve", "operator"])
def test_a_repo_that_phimill_did_not_make_is_left_as_it_is(world: World, who: str, tmp_path: Path) -> None:
    for account in sorted(MAY[who]):
        owner = {"lovelace": "ada", "phimill": "millbot"}.get(account, account)
        phi_repos.upload(
            world.hub.url,
            world.hub.token(owner),
            f"{account}/phi-twin-web",
            phi_repos.write("phi35_mini", tmp_path / account),
        )
        before = world.everything()
        with pytest.raises(PhimillError, match="phi-twin-web"):
            world.ask(who, account)
        assert world.everything() == before


def test_a_plan_that_was_made_for_one_is_not_carried_out_for_another(world: World) -> None:
    plan = world.desk.plan(world.people["ada"], two_repos.MODEL, [], "lovelace")
    before = world.everything()
    for who in world.people.keys() - {"ada", "operator"}:
        with pytest.raises(AccessDenied):
            world.desk.submit(world.people[who], plan)
    assert world.everything() == before
    assert world.desk.builds(OPERATOR) == ()


def test_what_somebody_converts_in_private_nobody_else_sees(world: World) -> None:
    assert world.ask("ada", "ada", private=True) == {"ada/phi-twin", "ada/phi-twin-web"}
    assert len(world.desk.builds(world.people["ada"])) == 1
    for who in ("eve", "stranger"):
        assert world.desk.builds(world.people[who]) == ()
        assert world.desk.releases(world.people[who]) == world.desk.releases(STRANGER)
    for token in (world.hub.token("eve"), world.hub.token("millbot"), False):
        assert not HfApi(endpoint=world.hub.url, token=token).repo_exists("ada/phi-twin")
