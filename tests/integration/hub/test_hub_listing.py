"""Finding models, and what their description says."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from bot.localhub import RunningHub


def publish(api: HfApi, repo: str, card: str, *extra: CommitOperationAdd) -> None:
    readme = CommitOperationAdd("README.md", f"---\n{card}\n---\n# Hi\n".encode())
    api.create_commit(repo, [readme, *extra], commit_message="card")


def test_a_quantized_model_is_found_by_its_base(api: HfApi, repo: str) -> None:
    base = f"microsoft/Phi-{uuid.uuid4().hex[:8]}"
    gguf = CommitOperationAdd("m.gguf", b"GGUF")
    publish(api, repo, f"base_model: {base}\nlicense: mit\ntags: [phimill]\nlanguage: en", gguf)
    for wanted in (f"base_model:quantized:{base}", f"base_model:{base}", ["gguf", f"base_model:{base}"]):
        assert [model.id for model in api.list_models(filter=wanted)] == [repo]
    assert not list(api.list_models(filter=[f"base_model:{base}", "onnx"]))
    (model,) = api.list_models(filter=f"base_model:{base}")
    assert set(model.tags) >= {"gguf", "license:mit", "phimill", "en"}
    api.delete_repo(repo)
    assert not list(api.list_models(filter=f"base_model:{base}"))


def test_models_are_found_by_author_words_and_task(api: HfApi, hub: RunningHub) -> None:
    word = uuid.uuid4().hex[:8]
    hub.config.add_org(f"org-{word}", {"miller": "admin"})
    repo = f"org-{word}/Phi-Mini-{word}"
    api.create_repo(repo)
    publish(api, repo, "pipeline_tag: text-generation")
    for found in (
        api.list_models(author=f"ORG-{word}"),
        api.list_models(search=f"mini {word}"),
        api.list_models(search=word, pipeline_tag="text-generation"),
    ):
        assert [model.id for model in found] == [repo]
    assert not list(api.list_models(search=word, pipeline_tag="fill-mask"))


def test_pages_follow_each_other_without_gaps(
    api: HfApi, new_id: Callable[[], str], hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = f"many-{uuid.uuid4().hex[:8]}"
    hub.config.add_org(org, {"miller": "admin"})
    made = [f"{org}/m{number}" for number in range(7)]
    for name in made:
        api.create_repo(name)
    monkeypatch.setattr("bot.localhub.routes.listing.PAGE", 3)
    found = [model.id for model in api.list_models(author=org, sort="created_at")]
    assert found == made[::-1]
    assert [model.id for model in api.list_models(author=org, sort="created_at", limit=2)] == made[:-3:-1]


def test_models_are_sorted_by_their_last_change(api: HfApi, hub: RunningHub) -> None:
    org = f"sort-{uuid.uuid4().hex[:8]}"
    hub.config.add_org(org, {"miller": "admin"})
    for name in ("first", "second"):
        api.create_repo(f"{org}/{name}")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=f"{org}/first")
    found = [model.id for model in api.list_models(author=org, sort="last_modified")]
    assert found == [f"{org}/first", f"{org}/second"]


def test_a_listing_holds_what_was_asked_for(api: HfApi, repo: str) -> None:
    publish(api, repo, "license: mit", CommitOperationAdd("config.json", b'{"model_type": "phi3"}'))
    name = repo.partition("/")[2]
    (plain,) = api.list_models(search=name)
    assert plain.card_data is None
    assert plain.siblings is None
    (full,) = api.list_models(search=name, full=True, cardData=True, fetch_config=True)
    assert full.card_data["license"] == "mit"
    assert full.config == {"model_type": "phi3"}
    assert "config.json" in [sibling.rfilename for sibling in full.siblings]
    (expanded,) = api.list_models(search=name, expand=["sha", "gated"])
    assert expanded.sha == api.model_info(repo).sha
    assert expanded.tags is None


def test_a_description_counts_parameters_and_bytes(api: HfApi, repo: str) -> None:
    header = json.dumps({
        "a": {"dtype": "BF16", "shape": [10, 20], "data_offsets": [0, 400]},
        "b": {"dtype": "F32", "shape": [7], "data_offsets": [400, 428]},
        "__metadata__": {"format": "pt"},
    }).encode()  # fmt: skip
    weights = struct.pack("<Q", len(header)) + header + bytes(428)
    config = b'{"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 3}'
    api.create_commit(
        repo,
        [CommitOperationAdd("model.safetensors", weights), CommitOperationAdd("config.json", config)],
        commit_message="weights",
    )
    info = api.model_info(repo, files_metadata=True)
    assert info.safetensors.parameters == {"BF16": 200, "F32": 7}
    assert info.safetensors.total == 207
    assert info.pipeline_tag == "text-generation"
    assert set(info.tags) >= {"safetensors", "phi3"}
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    assert sizes["model.safetensors"] == len(weights)
    assert info.used_storage == sum(sizes.values())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", b"---\n: : :\n---\n"),
        ("README.md", b"---\na: &a [x]\nb: *a\n---\n"),
        ("config.json", b"\xff\xfe{}"),
        ("README.md", b"---\ntags: {a: .nan, b: 2026-01-01, 3: [1, [2]]}\nbase_model: 3\n---\n"),
        ("README.md", b'---\ntags: ["\\ud800"]\nx: 0x' + b"f" * 9000 + b"\n---\n"),
        ("config.json", b"[" * 5000),
        ("config.json", b'{"model_type": "\\ud800", "quantization_config": {"a": [NaN, 1e999, "\\udfff"]}}'),
        ("config.json", b'{"auto_map": ' + b"[" * 400 + b"]" * 400 + b"}"),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", b""),
        ("model.safetensors", struct.pack("<Q", 30) + b'{"a":{"dtype":1,"shape":[-1]}}'),
    ],
)
def test_a_repo_with_broken_metadata_is_still_listed(
    api: HfApi, repo: str, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_validate_yaml", lambda *_, **__: None)
    api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repo)
    assert api.model_info(repo).id == repo
    assert [model.id for model in api.list_models(search=repo.partition("/")[2], full=True)] == [repo]
