"""Builds of a backend with two repos: the real steps, workspace, publisher and Hub. Only the converter is not real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import key_files
import phi_repos
import press
import pytest
from huggingface_hub import HfApi
from press import Mill
from pydantic import SecretStr
from two_repos import DESK, MODEL, WEB

from bot.builds import BuildRequest, Target, VariantResult
from bot.errors import UsageError
from bot.hub import Hub
from bot.localhub import HubConfig
from bot.localhub.database import Database
from bot.localhub.grants import Consent, Grants
from bot.planning import Planning
from bot.publisher import Publisher
from bot.signing import Signer
from bot.steps import Interrupted, Outcome


@pytest.fixture
def mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    with press.standing(tmp_path, monkeypatch) as mill:
        yield mill


@pytest.fixture
def sha(mill: Mill) -> str:
    return mill.release()


def by_recipe(outcome: Outcome) -> dict[str, VariantResult]:
    return {result.recipe.removeprefix("twin/"): result for result in outcome.results}


@pytest.mark.usefixtures("sha")
def test_one_build_fills_every_repo_of_its_backend(mill: Mill) -> None:
    outcome = mill.build(mill.plan())
    assert outcome.failure is None
    assert {name: (r.status, r.repo, r.tag) for name, r in by_recipe(outcome).items()} == {
        "fp32": ("published", DESK, "v1.0"),
        "int4": ("published", DESK, "v1.0"),
        "web-fp32": ("published", WEB, "v1.0"),
        "web-int4": ("published", WEB, "v1.0"),
    }
    assert [v.recipe for v in mill.state(DESK).variants] == ["twin/fp32", "twin/int4"]
    assert [v.recipe for v in mill.state(WEB).variants] == ["twin/web-fp32", "twin/web-int4"]
    assert mill.tags(DESK) == mill.tags(WEB) == ("v1.0",)
    [collection] = mill.api.list_collections(owner="phimill")
    assert {item.item_id for item in mill.api.get_collection(collection.slug).items} == {DESK, WEB}


@pytest.mark.usefixtures("sha")
def test_a_repo_is_finished_with_its_last_variant_and_does_not_wait_for_the_others(mill: Mill) -> None:
    tagged: dict[str, tuple[str, ...]] = {}
    mill.press.before = lambda recipe: tagged.update({recipe: mill.tags(DESK)})
    mill.build(mill.plan())
    assert tagged == {
        "twin/fp32": (), "twin/int4": (), "twin/web-fp32": ("v1.0",), "twin/web-int4": ("v1.0",),
    }  # fmt: skip
    assert [title.startswith("Add ") for title in mill.commits(DESK)[-2:]] == [True, True], "no commit to finish it"


@pytest.mark.usefixtures("sha")
def test_the_source_is_run_once_and_each_baseline_before_what_is_measured_against_it(mill: Mill) -> None:
    mill.build(mill.plan())
    assert mill.press.calls == [
        "convert twin/fp32", "reference", "evaluate twin/fp32", "convert twin/int4", "evaluate twin/int4",
        "convert twin/web-fp32", "evaluate twin/web-fp32", "convert twin/web-int4", "evaluate twin/web-int4",
    ]  # fmt: skip


@pytest.mark.usefixtures("sha")
def test_a_runtime_that_is_wrong_in_one_repo_leaves_the_other_alone(mill: Mill) -> None:
    mill.press.kl["twin/fp32"] = 0.5
    outcome = mill.build(mill.plan())
    results = by_recipe(outcome)
    assert {name: r.status for name, r in results.items()} == {
        "fp32": "gate_failed", "int4": "gate_failed", "web-fp32": "published", "web-int4": "published",
    }  # fmt: skip
    assert "Runtime error" in str(results["int4"].reason)
    assert "twin/int4" not in mill.press.converted()
    assert not mill.api.repo_exists(DESK)
    assert mill.tags(WEB) == ("v1.0",)
    assert outcome.failure is not None
    assert outcome.failure.code == "gate_failed"


@pytest.mark.usefixtures("sha")
def test_a_baseline_that_cannot_be_made_leaves_the_other_repo_alone(mill: Mill) -> None:
    mill.press.breaks.add("twin/fp32")
    outcome = mill.build(mill.plan())
    assert {name: r.status for name, r in by_recipe(outcome).items()} == {
        "fp32": "failed", "int4": "failed", "web-fp32": "published", "web-int4": "published",
    }  # fmt: skip
    assert mill.tags(WEB) == ("v1.0",)
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.message) == ("converter_failed", "twin/fp32: It broke.")
    assert mill.plan().targets == (Target(repo=DESK, version="v1.0", recipes=("twin/int4", "twin/fp32")),)


@pytest.mark.usefixtures("sha")
def test_a_baseline_that_nobody_asked_for_is_measured_and_not_published(mill: Mill) -> None:
    outcome = mill.build(mill.plan("twin/web-int4"))
    assert set(by_recipe(outcome)) == {"web-int4"}
    assert mill.press.converted() == ["twin/web-fp32", "twin/web-int4"]
    assert [v.recipe for v in mill.state(WEB).variants] == ["twin/web-int4"]
    assert not mill.api.repo_exists(DESK)


@pytest.mark.usefixtures("sha")
def test_an_error_that_the_recipe_discloses_is_published_with_its_figures(mill: Mill) -> None:
    mill.press.kl |= {"twin/web-fp32": 0.13, "twin/web-int4": 0.2}
    outcome = mill.build(mill.plan())
    assert outcome.failure is None
    web = {v.recipe: v for v in mill.state(WEB).variants}
    assert {v.caveat for v in web.values()} == {"Its runtime has no LongRoPE."}
    assert web["twin/web-int4"].fidelity.kl_mean == 0.2
    assert {v.caveat for v in mill.state(DESK).variants} == {""}
    card = Path(mill.api.hf_hub_download(WEB, "README.md", cache_dir=mill.settings.home / "seen")).read_text()
    assert "Its runtime has no LongRoPE." in card


@pytest.mark.usefixtures("sha")
def test_with_a_disclosed_error_a_bad_quantization_is_declined_all_the_same(mill: Mill) -> None:
    mill.press.kl |= {"twin/web-fp32": 0.13, "twin/web-int4 against its baseline": 0.3}
    outcome = mill.build(mill.plan())
    assert by_recipe(outcome)["web-int4"].status == "gate_failed"
    state = mill.state(WEB)
    assert [v.recipe for v in state.variants] == ["twin/web-fp32"]
    assert {d.recipe: d.by for d in state.declined} == {"twin/web-int4": "gate", "twin/web-moe": "verdict"}
    assert mill.state(DESK).declined == ()
    assert (mill.tags(DESK), mill.tags(WEB)) == (("v1.0",), ("v1.0",))


@pytest.mark.usefixtures("sha")
def test_a_variant_that_could_not_be_made_keeps_no_repo_from_its_tag(mill: Mill) -> None:
    mill.press.breaks.add("twin/int4")
    outcome = mill.build(mill.plan())
    assert by_recipe(outcome)["int4"].status == "failed"
    assert (mill.tags(DESK), mill.tags(WEB)) == (("v1.0",), ("v1.0",))
    assert mill.plan().targets == (Target(repo=DESK, version="v1.1", recipes=("twin/int4",)),)


@pytest.mark.usefixtures("sha")
def test_what_lies_beside_a_variant_is_published_and_not_counted(mill: Mill) -> None:
    outcome = mill.build(mill.plan("twin/int4"))
    [variant] = mill.state(DESK).variants
    assert [f.path for f in variant.files] == ["phi-int4.bin"]
    assert [f.path for f in variant.extras] == ["int4.txt"]
    assert {"phi-int4.bin", "int4.txt"} <= {f.rfilename for f in mill.api.model_info(DESK).siblings or ()}
    assert by_recipe(outcome)["int4"].bytes == len("twin/int4")


@pytest.mark.usefixtures("sha")
def test_after_a_build_only_the_source_and_the_figures_are_left(mill: Mill) -> None:
    mill.build(mill.plan())
    work = mill.settings.home / "work"
    assert [path for kind in ("variant", "shared") for path in (work / kind).iterdir() if path.is_dir()
            if not path.name.endswith(".users")] == []  # fmt: skip
    assert len(list((work / "reference").glob("*.json"))) == 3, "of the source and of two unquantized exports"


def test_a_new_readme_renews_both_cards_and_makes_nothing(mill: Mill, sha: str) -> None:
    mill.build(mill.plan())
    mill.press.calls.clear()
    phi_repos.card(mill.folder, "license: mit\nlanguage: [en, nl]")
    newer = mill.release()
    outcome = mill.build(mill.plan())
    assert (outcome, mill.press.calls) == (Outcome(), [])
    for repo in (DESK, WEB):
        state = mill.state(repo)
        assert (state.source_sha, state.version, mill.tags(repo)) == (newer, "v1.0", ("v1.0",))
    assert newer != sha


@pytest.mark.usefixtures("sha")
def test_a_build_that_is_replayed_from_its_steps_does_nothing_again(mill: Mill) -> None:
    request = mill.plan()
    first = mill.build(request)
    calls, commits = list(mill.press.calls), [mill.commits(repo) for repo in (DESK, WEB)]
    assert mill.build(request) == first
    mill.kept.clear()  # and one whose steps were lost looks at the repos
    again = mill.build(request)
    assert {r.status for r in again.results} == {"already_published"}
    assert {r.tag for r in again.results} == {"v1.0"}
    assert (mill.press.calls, [mill.commits(repo) for repo in (DESK, WEB)]) == (calls, commits)


@pytest.mark.usefixtures("sha")
def test_a_build_of_two_repos_goes_on_where_it_was_left(mill: Mill) -> None:
    class Killed(BaseException):
        pass

    def kill(recipe: str) -> None:
        if recipe == "twin/web-int4":
            raise Killed

    request = mill.plan()
    mill.press.before = kill
    with pytest.raises(Killed):
        mill.build(request)
    assert mill.tags(DESK) == ("v1.0",)
    mill.press.before = lambda _recipe: None
    mill.press.calls.clear()
    outcome = mill.build(request)
    assert mill.press.calls == ["convert twin/web-int4", "evaluate twin/web-int4"]
    assert {r.status for r in outcome.results} == {"published"}
    assert (mill.tags(DESK), mill.tags(WEB)) == (("v1.0",), ("v1.0",))


@pytest.fixture
def ada(mill: Mill, tmp_path: Path) -> str:
    """The token of somebody who has signed in and allowed us `contribute-repos`; it is lent to the builder."""
    HubConfig(tmp_path / "hub").add_user("ada")
    consent = Consent("phimill", "ada", "openid profile contribute-repos", "", None, None)
    token = Grants(Database(tmp_path / "hub" / "hub.sqlite")).token(consent, 3600)
    mill.builder._keys.lend("ada", SecretStr(token))
    return token


def planned(mill: Mill, token: str, *, private: bool) -> BuildRequest:
    hub = Hub(mill.api.endpoint, token)
    planning = Planning(mill.settings, hub, Publisher(hub, lambda: token))
    [request] = planning.plan(MODEL, ("twin/fp32", "twin/int4"), "ada", asker="ada", private=private).builds
    return request


@pytest.mark.usefixtures("sha")
def test_what_a_person_asks_for_is_published_with_their_own_token_and_in_private(mill: Mill, ada: str) -> None:
    request = planned(mill, ada, private=True)
    outcome = mill.build(request)
    assert outcome.failure is None
    [target] = request.targets
    theirs = HfApi(endpoint=mill.api.endpoint, token=ada)
    assert theirs.model_info(target.repo).private
    assert {author for c in theirs.list_repo_commits(target.repo) for author in c.authors} == {"ada"}
    assert [t.name for t in theirs.list_repo_refs(target.repo).tags] == ["v1.0"]
    assert not mill.api.repo_exists(target.repo), "the bot's own token sees nothing of it"
    assert not list(theirs.list_collections(owner="ada"))
    said = "".join(line.text for line in mill.journal.log(request.key))
    assert said
    assert ada not in said + request.model_dump_json() + outcome.model_dump_json()


@pytest.mark.usefixtures("sha")
def test_what_a_person_asks_for_is_signed_as_everything_else_is(mill: Mill, ada: str, tmp_path: Path) -> None:
    key = key_files.make(tmp_path)
    mill.publisher.signer = Signer(key.private)
    request = planned(mill, ada, private=False)
    assert mill.build(request).failure is None
    assert mill.state(request.targets[0].repo).signer == key.fingerprint


@pytest.mark.usefixtures("sha")
def test_a_build_without_its_asker_s_token_does_nothing_and_says_what_it_waits_for(mill: Mill, ada: str) -> None:
    request = planned(mill, ada, private=False)
    mill.builder._keys.keep_only(())
    with pytest.raises(Interrupted):
        mill.build(request)
    assert mill.press.calls == []
    assert "It waits for ada to sign in again." in mill.journal.log(request.key)[-1].text
    mill.builder._keys.lend("ada", SecretStr(ada))
    assert mill.build(request).failure is None
    assert not mill.api.model_info(request.targets[0].repo).private


@pytest.mark.usefixtures("sha")
def test_a_repo_that_we_may_not_change_is_found_out_before_the_work(mill: Mill, ada: str, tmp_path: Path) -> None:
    request = planned(mill, ada, private=True)
    own = HfApi(endpoint=mill.api.endpoint, token=HubConfig(tmp_path / "hub").add_token("ada", "write"))
    own.create_repo(request.targets[0].repo)
    with pytest.raises(UsageError, match="exists and is public"):
        planned(mill, ada, private=True)
    refused = mill.build(planned(mill, ada, private=False))
    assert refused.failure is not None
    assert refused.failure.code == "access_denied"
    assert mill.press.calls == []
