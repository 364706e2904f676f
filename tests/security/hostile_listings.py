"""Listings that lie about what is behind them, or that do not end; and answers that no Hub should give."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hostile_hub import Listed
from hostile_repos import CONVERTIBLE, UNSUPPORTED, Made, case, good, trained, without
from lying_proxy import Answer, endless

CORRUPT = "source_corrupt"


def _known(files: Made, name: str) -> bytes:
    data = files[name]
    assert isinstance(data, bytes)
    return data


def _listed(name: str, size: int | None = None, digest: str | None = None, *, more: int = 0) -> Made:
    """A good repo in whose listing one file has another size (`more`: than it has) or another digest."""
    data = _known(trained(), name)
    return {**trained(), name: Listed(data, len(data) + more if more else size, digest)}


@case("listings", CORRUPT, "more than 10000 files", seconds=180)
def a_hundred_thousand_files(canary: Path) -> Made:
    return {**good(), **{f"{n // 1000}/{n}": b"" for n in range(100_000)}}


@case("listings", CORRUPT, "more than 512")
def six_hundred_shards(canary: Path) -> Made:
    return {**good(), **{f"model-{n:05}-of-00600.safetensors": b"" for n in range(600)}}


@case("listings", "refused", "no config.json")
def a_repo_with_nothing_in_it(canary: Path) -> Made:
    return {".gitattributes": b""}


@case("listings", CORRUPT, "tensors end at byte")
def weights_listed_larger_than_they_are(canary: Path) -> Made:
    return _listed("model.safetensors", more=1000)


@case("listings", CORRUPT, "tensors end at byte")
def weights_listed_smaller_than_they_are(canary: Path) -> Made:
    return _listed("model.safetensors", more=-1000)


@case("listings", CORRUPT, "claims")
def weights_listed_as_two_exabytes(canary: Path) -> Made:
    return _listed("model.safetensors", size=2**61)


@case("listings", CONVERTIBLE, seconds=180, build="hub_unreachable")
def a_file_that_ends_before_its_size(canary: Path) -> Made:
    return _listed("tokenizer.model", more=1000)


@case("listings", CONVERTIBLE, seconds=180, build="not_enough_room")
def a_file_listed_as_an_exabyte(canary: Path) -> Made:
    return _listed("tokenizer.model", size=2**60)


@case("listings", CONVERTIBLE, seconds=180, build="source_corrupt")
def a_file_that_is_larger_than_its_size(canary: Path) -> Made:
    return _listed("tokenizer.model", more=-1000)


@case("listings", CONVERTIBLE, seconds=180, build="source_corrupt")
def weights_that_do_not_have_their_digest(canary: Path) -> Made:
    return _listed("model.safetensors", digest=hashlib.sha256(b"other weights").hexdigest())


@case("listings", CONVERTIBLE, seconds=180, build="source_corrupt")
def a_small_file_that_does_not_have_its_digest(canary: Path) -> Made:
    return _listed("generation_config.json", digest="0" * 40)


@case("listings", CONVERTIBLE, seconds=180, build="source_corrupt")
def a_file_whose_digest_is_too_short(canary: Path) -> Made:
    return _listed("generation_config.json", digest="ab" * 19)


@case("listings", UNSUPPORTED, "no safetensors")
def onnx_with_data_outside_and_nothing_else(canary: Path) -> Made:
    return {**without(good(), "model.safetensors"), "model.onnx": _onnx("../../../../etc/passwd")}


@case("listings", CONVERTIBLE, seconds=300)
def onnx_with_data_outside_beside_a_good_model(canary: Path) -> Made:
    xml = b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>"
    return {**trained(), "model.onnx": _onnx("../../../../etc/passwd"), "onnx/model.onnx": _onnx("/etc/passwd"),
            "model.onnx.data": b"evil", "openvino_model.xml": xml}  # fmt: skip


def _onnx(location: str) -> bytes:
    """An ONNX model of one tensor whose external data lies at `location` (onnx.proto3: ModelProto.graph = 7,
    GraphProto.initializer = 5, TensorProto.external_data = 13, data_location = 14).
    """

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    entry = field(1, b"location") + field(2, location.encode())
    tensor = field(8, b"w") + bytes([1 << 3, 4, 2 << 3, 1]) + field(13, entry) + bytes([14 << 3, 1])
    return bytes([1 << 3, 8]) + field(7, field(5, tensor))


# --- answers ------------------------------------------------------------------------------------------------

# What the Hub answers instead, by the case's name: the part of the path that it is about, and the answer.
ANSWERS: dict[str, tuple[str, Answer]] = {}


def _answered(name: str, path: str, answer: Answer, look: str, says: str = "", *, build: str = "") -> None:
    def make(canary: Path) -> Made:
        return trained()

    make.__name__ = name
    ANSWERS[name] = (path, answer)
    case("listings", look, says, seconds=180, build=build)(make)


def _redirected(to: str) -> Answer:
    return Answer(307, {"location": to})


_SHA, _TREE, _CONFIG, _WEIGHTS = "/revision/|$", "/tree/", "/config.json", "/model.safetensors"
_answered("a_config_without_end", _CONFIG, Answer(200, body=endless), CORRUPT, "larger than")
_answered("weights_without_end", "/tokenizer.model", Answer(200, body=endless), CONVERTIBLE, build="source_corrupt")
_answered("a_redirect_to_a_file", _CONFIG, _redirected("file:///etc/passwd"), "hub", "refused")
_answered("a_redirect_to_another_scheme", _CONFIG, _redirected("gopher://127.0.0.1/"), "hub", "refused")
_answered("a_redirect_without_end", _CONFIG, _redirected("config.json?again"), "hub", "redirected more than")
_answered("a_range_that_is_another", _WEIGHTS, Answer(206, {"content-range": "bytes 5-9/10"}), "hub", "range")
_answered("a_login_page_as_listing", _TREE, Answer(200, {"content-type": "text/html"}, b"<html>"), "hub", "understood")
_answered("a_listing_of_other_things", _TREE, Answer(200, body=b'[{"type": "file", "path": 5}]'), "hub", "understood")
_answered("a_listing_that_is_nested", _TREE, Answer(200, body=b"[" * 100_000), "hub", "understood")
_answered(
    "a_file_without_a_size",
    _TREE,
    Answer(200, body=b'[{"type":"file","path":"config.json","oid":"0","size":null}]'),
    "hub",
    "understood",
)
_answered("a_commit_that_is_a_path", _SHA, Answer(200, body=b'{"id": "@", "sha": "../../../etc"}'), "repo_unavailable")
_answered(
    "a_repo_that_is_another",
    _SHA,
    Answer(200, body=b'{"id": "eve/other", "sha": "' + b"a" * 40 + b'"}'),
    "repo_unavailable",
    "eve/other",
)
