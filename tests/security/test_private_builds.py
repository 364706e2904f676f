"""The desk: what one person asks for in private, others neither see nor stop; nobody writes where they may not."""

from __future__ import annotations

import pytest
from fake_mill import FakeMill, build, request
from pydantic import SecretStr

from bot import desk as desk_module
from bot.accounts import Account
from bot.builds import LogLine, Phase
from bot.desk import Desk
from bot.errors import AccessDenied, Busy, PhimillError, UsageError
from bot.settings import Settings
from bot.visitor import OPERATOR, STRANGER, Visitor

ADA = Visitor(name="ada", token=SecretStr("hf_ada"), address="192.0.2.1")
EVE = Visitor(name="eve", token=SecretStr("hf_eve"), address="192.0.2.2")
FORGED = Visitor(name="ada", token=SecretStr("hf_eve"), address="192.0.2.3")
SECRET, OPEN = "a" * 32, "b" * 32


KNOWN = {"hf_ada": Account(name="ada", writable=("ada", "lovelace")), "hf_eve": Account(name="eve", writable=())}


class KnownTokens:
    def of(self, token: SecretStr) -> Account | None:
        return KNOWN.get(token.get_secret_value())


@pytest.fixture
def mill(monkeypatch: pytest.MonkeyPatch) -> FakeMill:
    monkeypatch.setattr(desk_module, "accounts", lambda endpoint: KnownTokens())
    mill = FakeMill(Settings(namespace="phimill", person_waiting=3))
    theirs = request().model_copy(update={"asker": "ada"})
    mill.known = [
        build(SECRET, Phase.WAITING, asked=theirs.model_copy(update={"private": True}), position=1),
        build(OPEN, Phase.WAITING, asked=theirs, position=2),
    ]
    mill.lines = [LogLine(number=1, at=mill.known[0].created, level="info", stage="fetch", text="secret")]
    return mill


@pytest.fixture
def desk(mill: FakeMill) -> Desk:
    return Desk(mill)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [EVE, STRANGER, FORGED], ids=["eve", "stranger", "forged"])
def test_a_private_build_is_not_there_for_others(desk: Desk, other: Visitor) -> None:
    if other is not FORGED:
        assert [b.id for b in desk.builds(other)] == [f"{OPEN}-1"]
        for ask in (desk.build, desk.log, desk.cancel, desk.retry):
            with pytest.raises(UsageError) as hidden:
                ask(other, SECRET)  # type: ignore[operator]
            with pytest.raises(UsageError) as missing:
                ask(other, "f" * 32)  # type: ignore[operator]
            assert str(hidden.value).replace(SECRET, "?") == str(missing.value).replace("f" * 32, "?")
    with pytest.raises(AccessDenied):
        desk.plan(other, "microsoft/phi-4", [], "ada")


def test_its_asker_and_the_operator_see_a_private_build(desk: Desk) -> None:
    for one in (ADA, OPERATOR):
        assert len(desk.builds(one)) == 2
        assert desk.log(one, SECRET)[0].text == "secret"
        assert desk.may_end(one, desk.build(one, SECRET))


def test_a_build_is_stopped_by_its_asker_or_the_operator_only(desk: Desk, mill: FakeMill) -> None:
    for other in (EVE, STRANGER):
        assert not desk.may_end(other, desk.build(other, OPEN))
        for act in (desk.cancel, desk.retry):
            with pytest.raises(AccessDenied, match="Only whoever asked"):
                act(other, OPEN)
    assert desk.cancel(ADA, OPEN).phase is Phase.CANCELLED
    assert desk.cancel(OPERATOR, SECRET).phase is Phase.CANCELLED


def test_people_publish_where_they_may_write_and_nowhere_else(desk: Desk) -> None:
    assert [desk.namespaces(v) for v in (ADA, EVE, STRANGER, FORGED)] == [("ada", "lovelace"), (), (), ()]
    plan = desk.plan(ADA, "microsoft/phi-4", [], "lovelace", private=True)
    assert {(r.asker, r.private) for r in plan.builds} == {("ada", True)}
    assert desk.plan(ADA, "microsoft/phi-4", [], None).namespace == "ada"
    for who, namespace, why in (
        (ADA, "phimill", "You may not publish to phimill"),
        (EVE, "eve", "may only read"),
        (STRANGER, None, "Only who has signed in"),
        (FORGED, "ada", "does not know your token"),
    ):
        for ask in (
            lambda who=who, namespace=namespace: desk.plan(who, "microsoft/phi-4", [], namespace),
            lambda who=who, namespace=namespace: desk.submit(
                who, plan.model_copy(update={"namespace": namespace or "ada"})
            ),
        ):
            with pytest.raises(PhimillError, match=why):
                ask()


def test_a_plan_that_was_made_for_somebody_else_is_not_submitted(desk: Desk) -> None:
    plan = desk.plan(OPERATOR, "microsoft/phi-4", [], "ada")
    with pytest.raises(AccessDenied, match="somebody else"):
        desk.submit(ADA, plan)


def test_too_many_builds_are_refused_before_anything_is_queued(desk: Desk, mill: FakeMill) -> None:
    plan = desk.plan(ADA, "microsoft/phi-4", [], "ada")
    many = tuple(r.model_copy(update={"repo": f"microsoft/phi-{n}"}) for r in plan.builds for n in range(2))
    with pytest.raises(Busy):
        desk.submit(ADA, plan.model_copy(update={"builds": many}))
    assert len(mill.known) == 2
