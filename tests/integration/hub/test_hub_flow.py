"""What the mill does all day: upload, tag, find, pull. Xet is on, as it is for everybody."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, snapshot_download

CARD = """---
license: mit
library_name: gguf
base_model: microsoft/Phi-tiny
base_model_relation: quantized
language: [en]
tags: [phimill]
phimill: {source_sha: abc, versions: [v1.0]}
---
# Phi tiny
"""


def make_model(folder: Path, seed: int) -> Path:
    """Write a folder like a release: text, random weights, float weights, repetition, odd lengths."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    floats = struct.pack("<500000f", *(rng.gauss(0, 0.02) for _ in range(500_000)))
    (folder / "README.md").write_text(CARD)
    (folder / "config.json").write_text('{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}')
    (folder / "tiny-Q4_K_M.gguf").write_bytes(rng.randbytes(9_000_001) + b"\0" * 5_000_003)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx.data").write_bytes(floats * 3 + b"tail")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_uploaded_folder_comes_back_byte_for_byte(api: HfApi, repo: str, tmp_path: Path) -> None:
    source = make_model(tmp_path / "source", seed=1)
    api.upload_folder(repo_id=repo, folder_path=source)
    api.create_tag(repo, tag="v1.0")

    copy = snapshot_download(
        repo, revision="v1.0", endpoint=api.endpoint, token=api.token, local_dir=tmp_path / "copy"
    )

    found = hashes(Path(copy))
    assert found.pop(".gitattributes")
    assert found == hashes(source)


def test_uploading_the_same_folder_again_makes_no_commit(api: HfApi, repo: str, tmp_path: Path) -> None:
    source = make_model(tmp_path / "source", seed=2)
    api.upload_folder(repo_id=repo, folder_path=source)
    before = api.model_info(repo).sha
    api.upload_folder(repo_id=repo, folder_path=source)
    assert api.model_info(repo).sha == before


def test_a_file_known_to_the_client_is_stored_in_a_second_repo_without_its_bytes(
    api: HfApi, repo: str, tmp_path: Path
) -> None:
    source = make_model(tmp_path / "source", seed=3)
    api.upload_folder(repo_id=repo, folder_path=source)
    other = f"{repo}-other"
    api.create_repo(other)
    (source / "tiny-Q4_K_M.gguf").write_bytes((source / "tiny-Q4_K_M.gguf").read_bytes() + b"one more byte")
    api.upload_folder(repo_id=other, folder_path=source)

    copy = snapshot_download(other, endpoint=api.endpoint, token=api.token, local_dir=tmp_path / "copy")
    assert hashes(Path(copy)).items() >= hashes(source).items()


def test_an_old_tag_still_gives_the_old_bytes(api: HfApi, repo: str, tmp_path: Path) -> None:
    for version, content in (("v1.0", b"old"), ("v2.0", b"new")):
        api.upload_file(path_or_fileobj=content * 9, path_in_repo="w.gguf", repo_id=repo)
        api.create_tag(repo, tag=version)
    api.delete_file("w.gguf", repo)

    for version, content in (("v1.0", b"old"), ("v2.0", b"new")):
        path = api.hf_hub_download(repo, "w.gguf", revision=version, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content * 9
    assert not api.file_exists(repo, "w.gguf")


def test_a_card_is_validated_stored_and_loaded(api: HfApi, repo: str, tmp_path: Path) -> None:
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repo)
    card = ModelCard.load(api.hf_hub_download(repo, "README.md", cache_dir=tmp_path))
    assert card.data.base_model == "microsoft/Phi-tiny"
    assert card.data.to_dict()["phimill"]["versions"] == ["v1.0"]


@pytest.mark.parametrize(
    ("front_matter", "complaint"),
    [
        ("license: [mit", "cannot be read"),
        ("- a\n- b", "mapping"),
        ("license: mit\ntags: phimill", '"tags" must be an array'),
        ("base_model: 'not a/valid/id'", "not the id of a model"),
        ("base_model_relation: copied", "must be one of"),
        ("a: &x [1]\nb: *x", "aliases"),
    ],
)
def test_a_card_with_broken_metadata_is_refused_with_the_reason(
    api: HfApi, repo: str, front_matter: str, complaint: str
) -> None:
    card = f"---\n{front_matter}\n---\ntext\n".encode()
    with pytest.raises(ValueError, match=complaint):
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)


def test_a_card_without_metadata_is_taken_with_a_warning(api: HfApi, repo: str) -> None:
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(path_or_fileobj=b"# Just text", path_in_repo="README.md", repo_id=repo)
    assert api.file_exists(repo, "README.md")


def test_a_large_file_is_copied_within_its_repo_without_an_upload(api: HfApi, repo: str) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    api.upload_file(path_or_fileobj=b"weights" * 999, path_in_repo="a/w.gguf", repo_id=repo)
    api.create_commit(
        repo,
        [
            CommitOperationCopy("a/w.gguf", "b/w.gguf"),
            CommitOperationDelete("a/", is_folder=True),
            CommitOperationAdd("notes.txt", b"moved"),
        ],
        commit_message="move",
    )
    assert api.list_repo_files(repo) == [".gitattributes", "b/w.gguf", "notes.txt"]
    (info,) = api.get_paths_info(repo, ["b/w.gguf"])
    assert info.lfs.sha256 == hashlib.sha256(b"weights" * 999).hexdigest()
