"""Tokenizers as programs: regular expressions that never end, normalizers that double, ids beyond every table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hostile_repos import CONVERTIBLE, UNSUPPORTED, Made, case, good, trained, with_json, without
from hostile_weights import bomb


def _tokenizer(**changes: Any) -> Made:
    """A good BPE model whose tokenizer.json differs in some keys."""
    return with_json(good("phi4"), "tokenizer.json", **changes)


def _raw(data: bytes) -> Made:
    return {**good("phi4"), "tokenizer.json": data}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split]}


@case("tokenizers", UNSUPPORTED, seconds=180)
def a_regular_expression_that_backtracks_without_end(canary: Path) -> Made:
    return _tokenizer(pre_tokenizer=_split(r"(?:(?:\p{N}|\p{N}\p{N}|.|..)+)+\x{10FFFD}"))


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def a_regular_expression_that_is_none(canary: Path) -> Made:
    return _tokenizer(pre_tokenizer=_split("(" * 5000))


@case("tokenizers", UNSUPPORTED, "given up on", seconds=180)
def a_normalizer_that_doubles_again_and_again(canary: Path) -> Made:
    double = {"type": "Replace", "pattern": {"String": "3"}, "content": "33"}
    return _tokenizer(normalizer={"type": "Sequence", "normalizers": [double] * 60})


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def a_tokenizer_of_a_hundred_thousand_brackets(canary: Path) -> Made:
    return _raw(b"[" * 100_000)


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def normalizers_nested_without_end(canary: Path) -> Made:
    text = '{"type":"Sequence","normalizers":[' * 20_000 + "]}" * 20_000
    files = _tokenizer(normalizer="@@")
    data = files["tokenizer.json"]
    assert isinstance(data, bytes)
    return {**files, "tokenizer.json": data.replace(b'"@@"', text.encode())}


@case("tokenizers", UNSUPPORTED, "larger than")
def a_tokenizer_of_more_than_64_megabytes(canary: Path) -> Made:
    return _tokenizer(comment="x" * 68_000_000)


@case("tokenizers", UNSUPPORTED, seconds=180)
def a_vocabulary_of_a_million_tokens(canary: Path) -> Made:
    model = json.loads(bytes(good("phi4")["tokenizer.json"]))["model"]  # type: ignore[arg-type]
    model["vocab"] |= {f"t{n}": n for n in range(320, 1_000_000)}
    return _tokenizer(model=model)


def _added(number: Any) -> Made:
    token = {"id": number, "content": "<|evil|>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}  # fmt: skip
    return _tokenizer(added_tokens=[token])


@case("tokenizers", UNSUPPORTED)
def an_added_token_at_the_end_of_32_bits(canary: Path) -> Made:
    return _added(2**32 - 1)


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def an_added_token_of_64_bits(canary: Path) -> Made:
    return _added(2**64)


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def an_added_token_before_the_first(canary: Path) -> Made:
    return _added(-1)


@case("tokenizers", UNSUPPORTED, "ends at 319")
def a_token_beyond_the_vocabulary(canary: Path) -> Made:
    return good("token_beyond_vocabulary")


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def a_model_of_an_unknown_type(canary: Path) -> Made:
    return _tokenizer(model={"type": "Python", "code": f"open({str(canary)!r}, 'w')"})


@case("tokenizers", UNSUPPORTED, "cannot be loaded")
def a_pickle_called_tokenizer_json(canary: Path) -> Made:
    return _raw(bomb(canary))


@case("tokenizers", UNSUPPORTED)
def a_tokenizer_class_that_is_a_list(canary: Path) -> Made:
    """`in` asks a set for the hash of it, and a list has none."""
    return {**good("phi2"), "tokenizer_config.json": b'{"tokenizer_class": ["GPT2Tokenizer"]}'}


@case("tokenizers", UNSUPPORTED, "names no tokenizer_class")
def a_tokenizer_class_that_is_a_table(canary: Path) -> Made:
    return with_json(good(), "tokenizer_config.json", tokenizer_class={"__class__": "os.system"})


@case("tokenizers", UNSUPPORTED, "tokenizer.model")
def a_tokenizer_class_with_an_escape_sequence(canary: Path) -> Made:
    files = without(good(), "tokenizer.model")
    name = "\x1b[2J\x1b]0;owned\x07\u202e<script>alert(1)</script>" + "A" * 100_000
    return {**with_json(files, "tokenizer_config.json", tokenizer_class=name), "tokenizer.json": b"{}"}


@case("tokenizers", "source_corrupt", "not JSON")
def a_tokenizer_config_of_a_hundred_thousand_brackets(canary: Path) -> Made:
    return {**good(), "tokenizer_config.json": b'{"a":' * 100_000}


@case("tokenizers", CONVERTIBLE, seconds=300, build="converter_failed")
def a_sentencepiece_model_that_claims_exabytes(canary: Path) -> Made:
    """A length-delimited field of 2^63 bytes, to whoever trusts what it reads."""
    return {**trained(), "tokenizer.model": b"\x0a" + b"\xff" * 8 + b"\x7f" + b"<unk>"}
