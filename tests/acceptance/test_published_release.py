"""What stands on the Hub after the watcher's first round over one release."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
import yaml
from hub_world import MODEL, SOURCE, TARGET, weights
from published import Published

from bot import recipes

pytestmark = pytest.mark.backend

DEFAULTS = {recipe.id: recipe for recipe in recipes.defaults("gguf")}
BESIDE = {"README.md", "fidelity.png", "phimill.json", "provenance.intoto.jsonl"}


def card_data(published: Published) -> dict[str, object]:
    text = published.world.read("README.md", "v1.0").decode()
    return dict(yaml.safe_load(text.split("\n---\n")[0]))


def test_the_round_says_that_every_default_recipe_is_published(published: Published) -> None:
    rows = published.ran.json["releases"]
    assert {row["recipe"]: (row["state"], row["tag"]) for row in rows} == dict.fromkeys(
        DEFAULTS, ("published", "v1.0")
    )
    (build,) = published.ran.json["builds"]
    assert build["phase"] == "done"
    assert {r["recipe"]: r["status"] for r in build["results"]} == dict.fromkeys(DEFAULTS, "published")


def test_every_default_recipe_has_its_file_and_nothing_else_is_there(published: Published) -> None:
    files = published.world.files()
    expected = {recipe.file.format(m=MODEL) for recipe in DEFAULTS.values()}
    assert {path for path in weights(files) if "imatrix" not in path} == expected
    assert {path for path in files if "imatrix" not in path} - expected == BESIDE | {".gitattributes"}


def test_there_is_one_commit_per_variant_and_the_last_one_is_tagged(published: Published) -> None:
    titles = published.world.commits()
    added = [f"Add {recipe.title} ({recipe.id})" for recipe in DEFAULTS.values()]
    assert sorted(titles[1:]) == sorted(added)
    head = published.world.reader.model_info(TARGET).sha
    assert published.world.tags() == {"v1.0": head}


def test_the_release_has_a_collection_with_its_conversions_in_it(published: Published) -> None:
    api = published.world.reader
    (found,) = [c for c in api.list_collections(owner="phimill") if MODEL in c.title]
    assert [item.item_id for item in api.get_collection(found.slug).items] == [TARGET]


def test_the_cards_yaml_says_what_it_is(published: Published) -> None:
    data = card_data(published)
    said = {name: data[name] for name in ("base_model", "base_model_relation", "library_name")}
    assert said == {"base_model": SOURCE, "base_model_relation": "quantized", "library_name": "llama.cpp"}
    assert data["pipeline_tag"] == "text-generation"
    assert data["license"] == "apache-2.0"
    assert {"gguf", "phi", "phimill"} <= set(data["tags"])  # type: ignore[call-overload]
    assert not {"model-index", "new_version", "widget"} & set(data)
    block = dict(data["phimill"])  # type: ignore[call-overload]
    assert (block["source_sha"], block["version"], block["complete"]) == (published.sha, "v1.0", True)
    assert set(block["recipes"]) == set(DEFAULTS)
    assert block["declined"] == {}


def test_the_cards_table_has_a_row_for_every_file(published: Published) -> None:
    text = published.world.read("README.md").decode()
    for recipe in DEFAULTS.values():
        (row,) = [line for line in text.splitlines() if f"`{recipe.file.format(m=MODEL)}`" in line and "|" in line]
        assert " % |" in row
    assert published.sha in text


def test_the_receipt_names_every_file_with_its_sha256(published: Published) -> None:
    receipt, files = published.world.receipt("v1.0"), published.world.files("v1.0")
    told = {f["path"]: f["sha256"] for v in receipt["variants"] for f in (*v["files"], *v["extras"])}
    assert told == weights(files)
    assert (receipt["source"], receipt["source_sha"], receipt["version"]) == (SOURCE, published.sha, "v1.0")
    for variant in receipt["variants"]:
        for file in variant["files"]:
            assert hashlib.sha256(published.world.read(file["path"], "v1.0")).hexdigest() == file["sha256"]


def test_the_statement_names_every_published_file_with_its_sha256(published: Published) -> None:
    lines = published.world.read("provenance.intoto.jsonl", "v1.0").decode().splitlines()
    (statement,) = map(json.loads, lines)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    subjects = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert set(subjects) == set(published.world.files("v1.0")) - {".gitattributes", "provenance.intoto.jsonl"}
    for path, sha256 in subjects.items():
        assert hashlib.sha256(published.world.read(path, "v1.0")).hexdigest() == sha256
    assert published.sha in json.dumps(statement["predicate"])


def test_the_plot_is_a_picture(published: Published) -> None:
    assert published.world.read("fidelity.png").startswith(base64.b64decode("iVBORw0KGgo="))


def test_the_hub_finds_it_under_its_source(published: Published) -> None:
    found = published.world.reader.list_models(filter=f"base_model:quantized:{SOURCE}")
    assert [model.id for model in found] == [TARGET]


def test_nothing_else_was_published(published: Published) -> None:
    assert published.world.published() == {TARGET}
