"""The catalogue over the real protocol: what it finds, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import phi_repos
import pytest

from bot import catalog, recipes
from bot.errors import AccessDenied, RepoUnavailable
from bot.hub import Hub
from bot.localhub import RunningHub
from bot.models import RepoRef
from bot.planner import drift

NOT_RELEASES = {"our_conversion", "quantization", "quantized_already", "adapter", "gguf_only", "not_a_phi"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    folder = tmp_path_factory.mktemp("hub")
    with RunningHub(folder / "root") as running:
        running.config.add_user("microsoft")
        running.config.add_user("stranger")
        running.config.add_user("visitor")
        for name in phi_repos.KINDS:
            source = phi_repos.write(name, folder / name)
            phi_repos.upload(running.url, running.token("microsoft"), f"microsoft/{name}", source)
        phi_repos.upload(running.url, running.token("stranger"), "stranger/fine_tune", folder / "fine_tune")
        yield running


def test_an_idle_look_at_an_organisation_costs_one_call(running: RunningHub) -> None:
    hub = Hub(running.url)
    found = catalog.releases(hub, ["microsoft"])
    assert {c.repo.split("/")[1] for c in found} == set(phi_repos.KINDS) - NOT_RELEASES
    assert list(hub.calls) == ["GET /api/models"]


def test_the_listing_gives_the_commit_that_the_repo_is_at(running: RunningHub) -> None:
    hub = Hub(running.url)
    for candidate in catalog.releases(hub, ["microsoft"])[:3]:
        assert hub.resolve(RepoRef(repo=candidate.repo)) == candidate.sha


def test_a_fine_tune_of_another_organisations_model_is_no_release(running: RunningHub) -> None:
    assert catalog.releases(Hub(running.url), ["stranger"]) == []


def test_a_fine_tune_can_be_asked_for_by_name(running: RunningHub) -> None:
    release = catalog.release(Hub(running.url), RepoRef(repo="stranger/fine_tune"))
    assert release.base_model == "microsoft/phi-4"


def test_a_release_costs_six_calls_and_a_fraction_of_its_bytes(running: RunningHub, tiny_phi: Path) -> None:
    """Commit, listing, config, tokenizer config, header, card."""
    phi_repos.upload(running.url, running.token("visitor"), "visitor/tiny", tiny_phi)
    hub = Hub(running.url)
    release = catalog.release(hub, RepoRef(repo="visitor/tiny"))
    assert len(hub.calls) == 6
    assert release.traits.longrope
    assert hub.bytes_read < release.weight_bytes / 100
    assert release.files == hub.tree(release.repo, release.sha)


def test_a_release_is_read_at_the_commit_asked_for(running: RunningHub, tmp_path: Path) -> None:
    token = running.token("visitor")
    source = phi_repos.write("phi3_mini_4k", tmp_path / "moving")
    first = phi_repos.upload(running.url, token, "visitor/moving", source)
    phi_repos.card(source, "license: apache-2.0")
    second = phi_repos.upload(running.url, token, "visitor/moving", source)
    hub = Hub(running.url)
    old = catalog.release(hub, RepoRef(repo="visitor/moving", revision=first))
    new = catalog.release(hub, RepoRef(repo="visitor/moving"))
    assert (old.sha, new.sha) == (first, second)
    assert (old.license, new.license) == ("mit", "apache-2.0")
    assert drift(catalog.classify_files(old), catalog.classify_files(new)) == "readme"


@pytest.mark.parametrize("ref", [RepoRef(repo="microsoft/none"), RepoRef(repo="microsoft/phi4", revision="none")])
def test_what_is_not_there_is_unavailable(running: RunningHub, ref: RepoRef) -> None:
    with pytest.raises(RepoUnavailable):
        catalog.release(Hub(running.url), ref)


def test_a_wrong_token_is_denied(running: RunningHub) -> None:
    with pytest.raises((AccessDenied, RepoUnavailable)):
        Hub(running.url, "hf_" + "x" * 30).resolve(RepoRef(repo="microsoft/phi4"))


def test_every_release_can_be_asked_for_its_defaults(running: RunningHub) -> None:
    hub = Hub(running.url)
    release = catalog.release(hub, RepoRef(repo="microsoft/phi4"))
    assert recipes.select((), release, "gguf")
