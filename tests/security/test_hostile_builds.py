"""Hostile repos that a verdict lets through, built: each ends as its error, or publishes nothing hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hostile_repos import CONVERTIBLE, PUBLISHED, Case, Made, every_case, trained
from hostile_world import QUICKEST, HostileWorld

CASES = tuple(case for case in every_case() if case.look == CONVERTIBLE)
FAILING = tuple(case for case in CASES if case.build != PUBLISHED)
CARDS = tuple(case for case in CASES if case.theme == "cards")
BESIDE = tuple(case for case in CASES if case.build == PUBLISHED and case.theme != "cards")

# A repo with all at once that does no harm to a build: one build of it is a build of each.
REPO, OURS = "eve/Phi-3-with-everything", "phimill/Phi-3-with-everything-GGUF"
GGUF = "Phi-3-with-everything-F16.gguf"
FILES = {".gitattributes", "README.md", "phimill.json", "provenance.intoto.jsonl", "fidelity.png", GGUF}
# Words of theirs, which none of ours may say.
THEIRS = (
    "owned",
    "alert(1)",
    "Ignore all previous",
    "javascript:",
    "eve/evil",
    "modeling_phi3",
    "<b>",
    "passwd",
)

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWorld]:
    with HostileWorld(tmp_path_factory.mktemp("hostile-builds")) as world:
        yield world


@pytest.fixture(scope="module")
def published(world: HostileWorld) -> Made:
    """The files of the repo with everything, which has been built and published."""
    files = trained()
    for case in (*BESIDE, *(case for case in CARDS if case.name == "a_card_whose_licence_is_a_prompt")):
        files |= {name: data for name, data in case.make(world.canary).items() if trained().get(name) != data}
    world.shelf.put(REPO, files)
    said = world.convert(REPO)
    assert said.code == 0, said
    return files


def test_every_case_that_a_look_lets_through_is_here() -> None:
    assert {*FAILING, *CARDS, *BESIDE} == set(CASES)
    assert len(FAILING) > 10
    assert not {case.name for case in FAILING} & {case.name for case in CARDS}


@pytest.mark.parametrize("case", FAILING, ids=lambda case: case.name)
def test_a_build_ends_as_the_error_that_is_meant_for_it(world: HostileWorld, case: Case) -> None:
    said = world.ask(case, "convert", *QUICKEST)
    assert said.code > 0, said
    assert said.error["code"] == case.build, said
    assert said.error["message"].endswith(".")
    assert said.error["hint"]
    assert "Traceback" not in said.out + said.err
    assert not world.canary.exists()
    assert f"phimill/{case.repo.partition('/')[2]}-GGUF" not in world.published()


def test_what_lies_beside_a_good_model_is_not_published(world: HostileWorld, published: Made) -> None:
    assert {"modeling_phi3.py", "pytorch_model.bin", "model.onnx", "../evil.safetensors"} <= set(published)
    assert set(world.api.list_repo_files(OURS)) == FILES
    assert not world.canary.exists()


def test_nothing_of_theirs_is_in_the_files_that_people_load(
    world: HostileWorld, published: Made, tmp_path: Path
) -> None:
    for name in sorted(FILES - {".gitattributes"}):
        data = Path(world.api.hf_hub_download(OURS, name, local_dir=tmp_path)).read_bytes()
        data = _without_names(data, published) if ".json" in name else data
        assert not [words for words in (*THEIRS, str(world.canary)) if words.encode() in data], name
    # The template is the source's, and has passed the verdict: the one thing in the file that somebody else wrote.
    template = published["chat_template.jinja"]
    assert isinstance(template, bytes)
    assert template in (tmp_path / GGUF).read_bytes()


def _without_names(data: bytes, files: Made) -> bytes:
    """A receipt without the names of the source's files, which it lists as they are: as JSON texts and in URLs."""
    for name in sorted(files, key=len, reverse=True):
        for spelled in (json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1], quote(name)):
            data = data.replace(spelled.encode(), b"")
    return data


@pytest.mark.parametrize("case", CARDS, ids=lambda case: case.name)
def test_a_hostile_card_does_not_become_ours(world: HostileWorld, published: Made, case: Case) -> None:
    """A new card upstream makes ours anew, and nothing else."""
    world.shelf.put(REPO, {**published, "README.md": case.make(world.canary)["README.md"]})
    before = {file.rfilename: file.blob_id for file in world.api.model_info(OURS, files_metadata=True).siblings or []}
    said = world.convert(REPO)
    assert said.code == 0, said
    assert "Traceback" not in said.err
    info = world.api.model_info(OURS, files_metadata=True)
    after = {file.rfilename: file.blob_id for file in info.siblings or []}
    assert after[GGUF] == before[GGUF]
    assert after["README.md"] != before["README.md"]
    text = Path(world.api.hf_hub_download(OURS, "README.md")).read_text(encoding="utf-8")
    assert not [words for words in (*THEIRS, str(world.canary)) if words in text + json.dumps(info.tags)]
    card = info.card_data
    assert card is not None
    assert card.base_model == REPO
    assert set(card.tags or []) == {"gguf", "llama.cpp", "quantized", "phi", "phimill"}
    assert not {"model-index", "widget", "new_version", "extra_gated_prompt", "license_name"} & set(card.to_dict())
