"""The corpus of hostile repos, looked at: each ends as the verdict or the error that is meant for it, and in time."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator

import pytest
from hostile_repos import CONVERTIBLE, THEMES, UNSUPPORTED, Case, every_case, good, without
from hostile_world import HostileWorld

from bot.errors import error_classes

CASES = every_case()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWorld]:
    with HostileWorld(tmp_path_factory.mktemp("hostile")) as world:
        yield world


def test_the_corpus_has_every_theme_and_at_least_sixty_cases() -> None:
    assert len(CASES) >= 60
    assert set(Counter(case.theme for case in CASES)) == set(THEMES)
    assert {case.look for case in CASES} - {UNSUPPORTED, CONVERTIBLE} <= set(error_classes())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_look_ends_as_it_has_to(world: HostileWorld, case: Case) -> None:
    said = world.ask(case, "check", "--format", "json")
    assert said.code != -1, f"it was stopped after {said.seconds:.0f} s"
    assert "Traceback" not in said.err
    assert not world.canary.exists()
    if case.look not in (UNSUPPORTED, CONVERTIBLE):
        assert (said.error["code"], said.out) == (case.look, ""), said
        assert case.says in said.error["message"]
        assert said.error["message"].endswith((".", "?"))
        return
    assert not said.error["code"], said.error
    verdicts = [v for v in said.json["verdicts"] if v["recipe"].startswith("gguf/")]
    possible = [v["recipe"] for v in verdicts if v["status"] in ("supported", "caveat")]
    reasons = " ".join(reason for v in verdicts for reason in v["reasons"])
    assert bool(possible) is (case.look == CONVERTIBLE), (possible, reasons)
    assert case.says in reasons


# One case of each theme, and those that would draw on a terminal.
DRAWING = (
    "a_name_with_an_escape_sequence",
    "a_name_that_reads_backwards",
    "a_tokenizer_class_with_an_escape_sequence",
)
SHOWN = {case.theme: case for case in CASES} | {case.name: case for case in CASES if case.name in DRAWING}


@pytest.mark.parametrize("case", SHOWN.values(), ids=lambda case: case.name)
def test_a_person_at_a_terminal_sees_words_and_nothing_else(world: HostileWorld, case: Case) -> None:
    said = world.ask(case, "check")
    text = said.out + said.err
    assert text.strip()
    assert "Traceback" not in text
    assert "bug in phimill" not in text, text
    assert len(text) < 20_000
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"]


def test_a_repo_made_again_under_its_name_is_another_one(world: HostileWorld) -> None:
    """What was known of the first is not believed of the second, and the first one's commit is gone."""
    repo = "eve/Phi-made-again"
    first = world.shelf.put(repo, good())
    assert "supported" in world.check(repo).out
    world.shelf.delete(repo)
    world.shelf.put(repo, {**without(good(), "model.safetensors"), "pytorch_model.bin": b"\x80\x02."})
    said = world.check(repo)
    assert {verdict["status"] for verdict in said.json["verdicts"]} == {"unsupported"}
    assert world.check(f"{repo}@{first}").error["code"] == "repo_unavailable"


def test_a_release_that_changed_hands_is_not_followed_to_its_new_owner(world: HostileWorld) -> None:
    world.shelf.put("eve/Phi-sold", good())
    world.shelf.move("eve/Phi-sold", "mallory/Phi-sold")
    assert world.check("eve/Phi-sold").error["code"] == "repo_unavailable"
    assert not world.check("mallory/Phi-sold").error["code"]


def test_looking_publishes_nothing(world: HostileWorld) -> None:
    assert world.published() == set()
