"""Collections."""

from __future__ import annotations

import uuid

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def title() -> str:
    """A title that no other test uses."""
    return f"Phi GGUF {uuid.uuid4().hex[:8]}"


def test_a_collection_gathers_repos_in_order(api: HfApi, anonymous: HfApi, repo: str, title: str) -> None:
    other = f"{repo}-2"
    api.create_repo(other)
    slug = api.create_collection(title, namespace="phimill", description="all of them").slug
    api.add_collection_item(slug, repo, "model", note="first")
    api.add_collection_item(slug, other, "model")

    found = anonymous.get_collection(slug)
    assert (found.title, found.description, found.owner) == (title, "all of them", "phimill")
    assert [(item.item_id, item.note) for item in found.items] == [(repo, "first"), (other, None)]
    assert slug in [one.slug for one in api.list_collections(owner="phimill")]
    assert [one.slug for one in api.list_collections(item=f"models/{repo}")] == [slug]

    api.delete_collection_item(slug, found.items[0].item_object_id)
    api.update_collection_item(slug, found.items[1].item_object_id, note="only", position=3)
    (item,) = api.get_collection(slug).items
    assert (item.item_id, item.note, item.position) == (other, "only", 3)


def test_making_a_collection_again_finds_the_first(api: HfApi, title: str) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    with pytest.raises(HfHubHTTPError) as failure:
        api.create_collection(title, namespace="phimill")
    assert failure.value.response.status_code == 409
    assert api.create_collection(title, namespace="phimill", exists_ok=True).slug == slug


def test_adding_an_item_again_is_a_conflict(api: HfApi, repo: str, title: str) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    api.add_collection_item(slug, repo, "model")
    with pytest.raises(HfHubHTTPError) as failure:
        api.add_collection_item(slug, repo, "model")
    assert failure.value.response.status_code == 409
    assert len(api.add_collection_item(slug, repo, "model", exists_ok=True).items) == 1


def test_a_private_item_is_hidden_and_a_private_collection_is_missing(
    api: HfApi, anonymous: HfApi, eve: HfApi, repo: str, title: str
) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    api.add_collection_item(slug, repo, "model")
    api.update_repo_settings(repo, visibility="private")
    assert anonymous.get_collection(slug).items == []
    assert len(api.get_collection(slug).items) == 1
    api.update_collection_metadata(slug, private=True, title=f"{title} x", theme="pink", position=2)
    assert api.get_collection(slug).title == f"{title} x"
    for stranger in (anonymous, eve):
        with pytest.raises(HfHubHTTPError) as failure:
            stranger.get_collection(slug)
        assert failure.value.response.status_code == 404


def test_only_members_change_a_collection(api: HfApi, eve: HfApi, repo: str, title: str) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    for attempt in (
        lambda: eve.create_collection(title, namespace="phimill"),
        lambda: eve.add_collection_item(slug, repo, "model"),
        lambda: eve.update_collection_metadata(slug, title="mine"),
        lambda: eve.delete_collection(slug),
    ):
        with pytest.raises(HfHubHTTPError) as failure:
            attempt()
        assert failure.value.response.status_code == 403


def test_a_deleted_collection_leaves_its_repos(api: HfApi, repo: str, title: str) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    api.add_collection_item(slug, repo, "model")
    api.delete_collection(slug)
    api.delete_collection(slug, missing_ok=True)
    assert api.repo_exists(repo)


def test_a_deleted_repo_leaves_its_collections(api: HfApi, repo: str, title: str) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    api.add_collection_item(slug, repo, "model")
    api.delete_repo(repo)
    assert api.get_collection(slug).items == []


@pytest.mark.parametrize(("item", "kind"), [("phimill/none", "model"), ("2307.09288", "paper")])
def test_an_item_that_is_not_here_is_refused(api: HfApi, title: str, item: str, kind: str) -> None:
    slug = api.create_collection(title, namespace="phimill").slug
    with pytest.raises(HfHubHTTPError):
        api.add_collection_item(slug, item, kind)
