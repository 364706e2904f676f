"""The receipt and the provenance statement: complete, stable, and read back with care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bot.errors import NotOurs
from bot.models import ArtifactFile
from bot.publication import SCHEMA, STATEMENT_PATH, Publication
from bot.receipt import MAX_RECEIPT_BYTES, NewerReceipt, read_receipt, receipt, statement

GOLDEN = Path(__file__).parent / "cards" / "phi-3.5-gguf.json"
CARD = ArtifactFile(path="README.md", size=10, sha256="a" * 64)
PLOT = ArtifactFile(path="fidelity.png", size=20, sha256="b" * 64)


@pytest.fixture
def publication() -> Publication:
    return read_receipt(GOLDEN.read_bytes())


@pytest.fixture
def said(publication: Publication) -> Any:
    return json.loads(statement(publication, [CARD, PLOT]))


def edited(**changes: Any) -> bytes:
    return json.dumps({**json.loads(GOLDEN.read_bytes()), **changes}).encode()


def test_a_receipt_reads_back_as_the_publication_it_was_made_from(publication: Publication) -> None:
    assert read_receipt(receipt(publication, {"cpu": "x86_64"})) == publication


def test_a_receipt_is_the_same_bytes_each_time_and_ends_in_a_newline(publication: Publication) -> None:
    data = receipt(publication)
    assert data == receipt(read_receipt(data))
    assert data.endswith(b"}\n")
    assert data == (json.dumps(json.loads(data), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def test_a_receipt_holds_the_host_facts_it_was_given(publication: Publication) -> None:
    assert json.loads(receipt(publication, {"machine": "x86_64"}))["host"] == {"machine": "x86_64"}


def test_a_figure_that_json_cannot_hold_is_refused(publication: Publication) -> None:
    first = publication.variants[0]
    broken = first.model_copy(update={"bits_per_weight": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        receipt(publication.model_copy(update={"variants": (broken,)}))


def test_fields_of_a_later_release_are_skipped_at_any_depth(publication: Publication) -> None:
    state = json.loads(GOLDEN.read_bytes())
    state["colour"] = "green"
    state["digests"]["shape"] = {"round": True}
    state["variants"][1]["fidelity"]["samples"][0]["mood"] = 3
    state["variants"][2]["files"][0]["crc"] = "00"
    assert read_receipt(json.dumps(state).encode()) == publication


def test_a_receipt_from_before_anything_was_signed_is_read_as_unsigned(publication: Publication) -> None:
    state = json.loads(receipt(publication))
    del state["signer"]
    assert read_receipt(json.dumps(state).encode()) == publication
    assert publication.signer is None


def test_a_newer_schema_is_refused_and_says_to_upgrade() -> None:
    with pytest.raises(NewerReceipt, match="Upgrade phimill") as caught:
        read_receipt(edited(schema_version=SCHEMA + 1, repo=5))
    assert isinstance(caught.value, NotOurs)
    assert caught.value.code == "newer_receipt"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"{",
        b"[" * 200_000,
        edited(version=None),
        edited(source_sha="main"),
    ],
    ids=["empty", "not text", "list", "null", "nothing", "cut", "deep", "no version", "no sha"],
)
def test_what_is_no_receipt_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(NotOurs):
        read_receipt(data)


def test_a_receipt_beyond_any_sense_is_not_parsed() -> None:
    with pytest.raises(NotOurs, match="bytes long"):
        read_receipt(b" " * (MAX_RECEIPT_BYTES + 1))


def test_a_statement_is_one_line_and_the_same_bytes_each_time(publication: Publication) -> None:
    data = statement(publication, [CARD, PLOT])
    assert data == statement(publication, [PLOT, CARD])
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")


def test_a_statement_has_the_types_that_verifiers_look_for(said: Any) -> None:
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(said["predicate"]) == {"buildDefinition", "runDetails"}
    assert ":" in said["predicate"]["buildDefinition"]["buildType"]


def test_every_published_file_is_a_subject_once(publication: Publication, said: Any) -> None:
    expected = {f.path: f.sha256 for v in publication.variants for f in (*v.files, *v.extras)}
    expected |= {"README.md": "a" * 64, "fidelity.png": "b" * 64}
    assert len(said["subject"]) == len(expected)
    assert {s["name"]: s["digest"]["sha256"] for s in said["subject"]} == expected
    assert [s["name"] for s in said["subject"]] == sorted(expected)


def test_the_source_is_named_at_its_commit_with_every_files_digest(publication: Publication, said: Any) -> None:
    listed = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    inputs = {d["name"]: d for d in listed}
    sha = publication.source_sha
    assert listed[0] == {
        "name": publication.source,
        "uri": f"hf://{publication.source}@{sha}",
        "digest": {"gitCommit": sha},
    }
    weights = inputs["model.safetensors"]
    assert weights["uri"] == f"hf://{publication.source}@{sha}/model.safetensors"
    assert len(weights["digest"]["sha256"]) == 64
    assert len(inputs["config.json"]["digest"]["gitBlob"]) == 40


def test_a_variant_of_an_earlier_version_names_the_commit_it_was_made_from(
    publication: Publication, said: Any
) -> None:
    build = said["predicate"]["buildDefinition"]
    earlier = publication.versions["v1.0"]
    assert earlier != publication.source_sha
    assert build["externalParameters"]["recipes"]["gguf/fp16"]["source_sha"] == earlier
    assert build["externalParameters"]["recipes"]["gguf/int4"]["source_sha"] == publication.source_sha
    commits = [d["digest"]["gitCommit"] for d in build["resolvedDependencies"] if "gitCommit" in d["digest"]]
    assert commits == [publication.source_sha, earlier]


def test_the_calibration_text_and_the_toolchain_lock_are_inputs(publication: Publication, said: Any) -> None:
    inputs = {d["name"]: d["digest"] for d in said["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert inputs["calibration text"] == {"sha256": publication.calibration_sha256}
    assert inputs["gguf toolchain lock"] == {"sha256": publication.variants[0].toolchain}


def test_a_publication_without_calibration_names_none(publication: Publication) -> None:
    bare = json.loads(statement(publication.model_copy(update={"calibration_sha256": None}), []))
    names = [d["name"] for d in bare["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert "calibration text" not in names


def test_what_was_asked_for_is_in_the_external_parameters(publication: Publication) -> None:
    options = {"gguf/int4": {"type": "Q4_K_M", "imatrix": True}}
    said = json.loads(statement(publication, [], options=options))
    asked = said["predicate"]["buildDefinition"]["externalParameters"]
    assert (asked["source"], asked["source_sha"]) == (publication.source, publication.source_sha)
    assert set(asked["recipes"]) == {v.recipe for v in publication.variants}
    assert asked["recipes"]["gguf/int4"]["options"] == options["gguf/int4"]
    assert asked["recipes"]["gguf/int8"]["options"] == {}


def test_the_builder_is_phimill_at_its_version_with_its_tools(publication: Publication, said: Any) -> None:
    builder = said["predicate"]["runDetails"]["builder"]
    assert builder["id"] == "pkg:pypi/phimill@0.1.0"
    assert builder["version"] == publication.tools


def test_nothing_in_a_statement_says_when(said: Any) -> None:
    assert "metadata" not in said["predicate"]["runDetails"]
    assert "startedOn" not in json.dumps(said)


def test_a_path_with_odd_characters_stays_one_uri(publication: Publication) -> None:
    odd = publication.source_files[0].model_copy(update={"path": "a b#c?.safetensors"})
    said = json.loads(statement(publication.model_copy(update={"source_files": (odd,)}), []))
    uri = said["predicate"]["buildDefinition"]["resolvedDependencies"][2]["uri"]
    assert uri.endswith("/a%20b%23c%3F.safetensors")


def with_matrix(publication: Publication, recipe: str, sha256: str, version: str) -> Publication:
    """The publication with another importance matrix beside one variant, which is of `version`."""
    return publication.model_copy(
        update={
            "variants": tuple(
                v.model_copy(
                    update={
                        "extras": (v.extras[0].model_copy(update={"sha256": sha256}),),
                        "version": version,
                    }
                )
                if v.recipe == recipe
                else v
                for v in publication.variants
            )
        }
    )


@pytest.mark.parametrize("recipe", ["gguf/int4", "gguf/q2_k", "gguf/q6_k"])
def test_a_shared_file_has_the_hash_of_the_newest_variant(publication: Publication, recipe: str) -> None:
    said = json.loads(statement(with_matrix(publication, recipe, "d" * 64, "v1.10"), []))
    hashes = {s["name"]: s["digest"]["sha256"] for s in said["subject"]}
    assert hashes["Phi-3.5-mini-instruct.imatrix.gguf"] == "d" * 64


def test_a_shared_file_of_which_nobody_knows_the_hash_is_not_attested(publication: Publication) -> None:
    said = json.loads(statement(with_matrix(publication, "gguf/q6_k", "d" * 64, "v1.1"), []))
    assert "Phi-3.5-mini-instruct.imatrix.gguf" not in [s["name"] for s in said["subject"]]


def test_two_files_cannot_claim_one_path(publication: Publication) -> None:
    taken = publication.variants[0].files[0].path
    with pytest.raises(ValueError, match="claim the path"):
        statement(publication, [ArtifactFile(path=taken, size=1, sha256="c" * 64)])


def test_a_statement_cannot_be_its_own_subject(publication: Publication) -> None:
    with pytest.raises(ValueError, match="own hash"):
        statement(publication, [ArtifactFile(path=STATEMENT_PATH, size=1, sha256="c" * 64)])
