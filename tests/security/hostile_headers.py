"""Safetensors headers that would have a parser read, write or allocate where it must not."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import phi_repos
from hostile_repos import CONVERTIBLE, UNSUPPORTED, Made, case, good, trained, with_config, without
from phi_repos import phi3_shapes, raw_safetensors, safetensors

CORRUPT = "source_corrupt"


def _entry(begin: int, end: int, shape: Any = None, dtype: Any = "BF16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 2] if shape is None else shape, "data_offsets": [begin, end]}


def _header(table: dict[str, Any] | str, data: bytes = bytes(16)) -> Made:
    return {**good(), "model.safetensors": raw_safetensors(table, data)}


def _shaped(**changes: Any) -> Made:
    """A good repo but for the shapes of some tensors (dots written as __)."""
    shapes = phi3_shapes() | {name.replace("__", "."): ("BF16", shape) for name, shape in changes.items()}
    return {**good(), "model.safetensors": safetensors(shapes)}


@case("headers", CORRUPT, "overlaps")
def tensors_that_overlap(canary: Path) -> Made:
    return _header({"a": _entry(0, 8), "b": _entry(4, 16)})


@case("headers", CORRUPT, "hole")
def a_hole_between_tensors(canary: Path) -> Made:
    return _header({"a": _entry(0, 4), "b": _entry(8, 16)})


@case("headers", CORRUPT, "end at byte 8 of 16")
def bytes_after_the_last_tensor(canary: Path) -> Made:
    return _header({"a": _entry(0, 8)})


@case("headers", CORRUPT, "bad offsets")
def offsets_that_run_backwards(canary: Path) -> Made:
    return _header({"a": _entry(16, 0, [8])})


@case("headers", CORRUPT, "bad offsets")
def negative_offsets(canary: Path) -> Made:
    return _header({"a": _entry(-16, 0, [8])})


@case("headers", CORRUPT, "end at byte")
def a_tensor_beyond_the_end_of_the_file(canary: Path) -> Made:
    return _header({"a": _entry(0, 2**40)})


@case("headers", CORRUPT, "cannot span")
def a_shape_whose_product_overflows_64_bits(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, [2**32, 2**32, 2**3])})


@case("headers", CORRUPT, "bad shape")
def a_shape_beyond_every_disk(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, [2**63])})


@case("headers", CORRUPT, "bad shape")
def a_negative_shape(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, [-2, -4])})


@case("headers", CORRUPT, "bad shape")
def a_shape_of_fractions_and_truths(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, [2.0, True, 4])})


@case("headers", CORRUPT, "bad shape")
def a_shape_of_a_thousand_dimensions(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, [1] * 1000)})


@case("headers", CORRUPT, "unknown dtype")
def a_dtype_that_is_none(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, dtype="O")})


@case("headers", CORRUPT, "unknown dtype")
def a_dtype_that_is_a_list(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, dtype=["BF16"])})


@case("headers", CORRUPT, "cannot span")
def a_dtype_of_another_width(canary: Path) -> Made:
    return _header({"a": _entry(0, 16, [8], dtype="F32")})


@case("headers", CORRUPT, "twice")
def the_same_name_twice(canary: Path) -> Made:
    entry = json.dumps(_entry(0, 16))
    return _header(f'{{"a": {entry}, "a": {entry}}}')


@case("headers", CORRUPT, "is refused")
def a_tensor_named_with_an_escape_sequence(canary: Path) -> Made:
    return _header({"\x1b[2J\u202e": _entry(0, 16)})


@case("headers", CORRUPT, "NaN")
def a_number_that_is_none(canary: Path) -> Made:
    return _header('{"a": {"dtype": "BF16", "shape": [NaN], "data_offsets": [0, 16]}}')


@case("headers", CORRUPT, "not JSON")
def a_header_of_a_hundred_thousand_brackets(canary: Path) -> Made:
    return _header("[" * 100_000)


@case("headers", CORRUPT, "not JSON")
def a_number_of_a_hundred_thousand_digits(canary: Path) -> Made:
    return _header('{"a": ' + "9" * 100_000 + "}")


@case("headers", CORRUPT, "header claims")
def a_header_longer_than_the_file(canary: Path) -> Made:
    return {**good(), "model.safetensors": struct.pack("<Q", 10_000) + b"{}"}


@case("headers", CORRUPT, "header claims")
def a_header_of_eighteen_exabytes(canary: Path) -> Made:
    return {**good(), "model.safetensors": b"\xff" * 8 + b"{}"}


@case("headers", CORRUPT, "too short")
def a_file_of_three_bytes(canary: Path) -> Made:
    return {**good(), "model.safetensors": b"{}\n"}


@case("headers", CORRUPT, "no tensor")
def a_file_without_tensors(canary: Path) -> Made:
    return _header({"__metadata__": {"format": "pt"}}, b"")


@case("headers", UNSUPPORTED, "lack model.embed_tokens.weight", seconds=180)
def a_hundred_thousand_tensors(canary: Path) -> Made:
    return _header({f"t{n}": _entry(0, 0, [0]) for n in range(100_000)}, b"")


@case("headers", CORRUPT, "more than", seconds=180)
def more_tensors_than_any_model_has(canary: Path) -> Made:
    return _header({f"{n}": _entry(0, 0, [0]) for n in range(200_001)}, b"")


# --- an index that lies -------------------------------------------------------------------------------------


def _index(weight_map: Any, **files: bytes) -> Made:
    return {
        **good("sharded"),
        "model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode(),
        **files,
    }


@case("headers", CORRUPT, "does not hold")
def an_index_that_names_a_shard_outside(canary: Path) -> Made:
    return _index({"model.norm.weight": "../../etc/passwd"})


@case("headers", CORRUPT, "does not hold")
def an_index_that_names_a_missing_shard(canary: Path) -> Made:
    return without(good("sharded"), "model-00002-of-00002.safetensors")


@case("headers", CORRUPT, "weight_map")
def an_index_without_a_map(canary: Path) -> Made:
    return _index(["model.norm.weight"])


@case("headers", CORRUPT, "does not hold")
def an_index_whose_homes_are_tables(canary: Path) -> Made:
    return _index({"model.norm.weight": {"file": "model.safetensors"}})


@case("headers", CORRUPT, "is not in")
def a_tensor_in_two_shards(canary: Path) -> Made:
    files = good("sharded")
    return {**files, "model-00002-of-00002.safetensors": files["model-00001-of-00002.safetensors"]}


@case("headers", CORRUPT, "no model.safetensors.index.json")
def two_files_and_no_index(canary: Path) -> Made:
    return {**good(), "more.safetensors": good()["model.safetensors"]}


# --- tensors that are not what config.json says -------------------------------------------------------------


@case("lies", UNSUPPORTED, "config.json says [1000000, 64]")
def a_vocabulary_larger_than_the_embedding(canary: Path) -> Made:
    return with_config(vocab_size=1_000_000)


@case("lies", UNSUPPORTED, "config.json says [320, 65]")
def a_hidden_size_that_differs(canary: Path) -> Made:
    return with_config(hidden_size=65)


@case("lies", UNSUPPORTED, "4096 layers")
def layers_that_are_not_there(canary: Path) -> Made:
    return with_config(num_hidden_layers=4096)


@case("lies", UNSUPPORTED, "heads")
def heads_that_are_not_there(canary: Path) -> Made:
    return with_config(num_attention_heads=8)


@case("lies", UNSUPPORTED, "heads")
def heads_of_keys_that_are_not_there(canary: Path) -> Made:
    return with_config(num_key_value_heads=4096)


@case("lies", UNSUPPORTED, "lm_head.weight")
def an_output_matrix_of_another_shape(canary: Path) -> Made:
    return _shaped(lm_head__weight=(phi_repos.VOCAB, 1))


@case("lies", UNSUPPORTED, "layers")
def layers_with_a_gap(canary: Path) -> Made:
    shapes = {name.replace("layers.1.", "layers.7."): shape for name, shape in phi3_shapes().items()}
    return {**good(), "model.safetensors": safetensors(shapes)}


@case("lies", UNSUPPORTED, "quantized already")
def weights_that_are_no_floats(canary: Path) -> Made:
    return {**good(), "model.safetensors": safetensors(phi3_shapes("I8"))}


def _with_weight(upper_half_of_float32: bytes) -> Made:
    """The trained model with one weight changed, as an overflow in training leaves it."""
    files = trained()
    data = files["model.safetensors"]
    assert isinstance(data, bytes)
    (length,) = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8 : 8 + length])["model.layers.3.mlp.down_proj.weight"]
    at = 8 + length + int(entry["data_offsets"][0]) + 2000
    return {**files, "model.safetensors": data[:at] + upper_half_of_float32 + data[at + 2 :]}


@case("lies", CONVERTIBLE, seconds=300, build="source_corrupt")
def a_weight_that_is_no_number(canary: Path) -> Made:
    return _with_weight(struct.pack("<f", float("nan"))[2:])


@case("lies", CONVERTIBLE, seconds=300, build="source_corrupt")
def a_weight_that_is_infinite(canary: Path) -> Made:
    return _with_weight(struct.pack("<f", float("-inf"))[2:])


@case("lies", CONVERTIBLE, seconds=300, build="converter_failed")
def a_feed_forward_that_is_not_there(canary: Path) -> Made:
    """Nothing that the verdict compares: the libraries find it out, in the sandbox."""
    files = trained()
    config = files["config.json"]
    assert isinstance(config, bytes)
    return {**files, "config.json": json.dumps({**json.loads(config), "intermediate_size": 2**17}).encode()}
