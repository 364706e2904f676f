"""The header parser accepts what is sound and refuses all else with a typed error, whatever the bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phi_repos import phi3_shapes, raw_safetensors, safetensors

from bot import safetensors_header as st_header
from bot.errors import SourceCorrupt
from bot.safetensors_header import Header


def read(data: bytes, size: int | None = None) -> Header:
    return st_header.read("m.safetensors", len(data) if size is None else size, lambda a, b: data[a:b])


def entry(begin: int = 0, end: int = 8, dtype: Any = "BF16", shape: Any = (4,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_a_sound_file_is_read_with_its_shapes_and_its_parameter_count() -> None:
    header = read(safetensors(phi3_shapes()))
    assert header.tensors["model.embed_tokens.weight"].shape == (320, 64)
    assert header.metadata == {"format": "pt"}
    assert header.parameters == sum(t.elements for t in header.tensors.values()) > 60_000


def test_the_real_trained_model_is_sound(tiny_phi: Any) -> None:
    assert read((tiny_phi / "model.safetensors").read_bytes()).parameters == 6_163_712


def test_a_header_longer_than_the_first_read_costs_one_more_read() -> None:
    data = safetensors({f"tensor.{i:06}": ("F32", (1,)) for i in range(2000)})
    reads: list[tuple[int, int]] = []

    def read_range(start: int, end: int) -> bytes:
        reads.append((start, end))
        return data[start:end]

    st_header.read("m.safetensors", len(data), read_range)
    assert len(reads) == 2
    assert reads[1][1] < len(data) - 4000


def test_empty_tensors_and_scalars_are_fine() -> None:
    table = {"none": entry(0, 0, shape=(0, 4)), "one": entry(0, 2, shape=())}
    assert read(raw_safetensors(table, bytes(2))).parameters == 1


SOUND = {"a": entry(0, 8), "b": entry(8, 16)}

CORRUPT: dict[str, tuple[Any, int, str]] = {
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "'b' overlaps"),
    "the same bytes twice": ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "overlaps"),
    "hole": ({"a": entry(0, 8), "b": entry(16, 24)}, 24, "hole before tensor 'b'"),
    "hole at the start": ({"a": entry(8, 16)}, 16, "hole before tensor 'a'"),
    "trailing bytes": (SOUND, 17, "end at byte 16 of 17"),
    "missing bytes": (SOUND, 15, "end at byte 16 of 15"),
    "span": ({"a": entry(0, 6)}, 6, "'a' of shape"),
    "product beyond 64 bits": ({"a": entry(0, 8, shape=(2**40, 2**40))}, 8, "'a' of shape"),
    "huge extent": ({"a": entry(0, 8, shape=(10**300,))}, 8, "bad shape"),
    "negative extent": ({"a": entry(0, 8, shape=(-2, -2))}, 8, "bad shape"),
    "true as an extent": ({"a": entry(0, 2, shape=(True,))}, 2, "bad shape"),
    "float extent": ({"a": entry(0, 8, shape=(4.0,))}, 8, "bad shape"),
    "rank": ({"a": entry(0, 2, shape=[1] * 9)}, 2, "bad shape"),
    "backward offsets": ({"a": entry(8, 0)}, 8, "bad offsets"),
    "unknown dtype": ({"a": entry(dtype="PICKLE")}, 8, "unknown dtype"),
    "dtype of the wrong type": ({"a": entry(dtype=["F32"])}, 8, "unknown dtype"),
    "extra key": ({"a": {**entry(), "code": "x"}}, 8, "not described"),
    "no object": ({"a": 1}, 8, "not described"),
    "control character in a name": ({"a\nb": entry()}, 8, "is refused"),
    "over-long name": ({"a" * 600: entry()}, 8, "is refused"),
    "no tensors": ({}, 0, "no tensor"),
    "metadata of the wrong type": ({"__metadata__": {"a": 1}, **SOUND}, 16, "__metadata__"),
    "twice the same name": (f'{{"a": {json.dumps(entry())}, "a": {json.dumps(entry())}}}', 8, "twice"),
    "not a number": ('{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', 4, "NaN"),
    "no JSON": ("{", 8, "not JSON"),
    "an array": ("[]", 8, "not a JSON object"),
    "deep nesting": ("[" * 100_000, 0, "not JSON"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_a_corrupt_header_is_refused_by_name(case: str) -> None:
    table, data, message = CORRUPT[case]
    with pytest.raises(SourceCorrupt, match=r"m\.safetensors") as raised:
        read(raw_safetensors(table, bytes(data)))
    assert message in raised.value.message


@pytest.mark.parametrize("size", [0, 4, 7])
def test_a_file_too_short_for_a_header_is_refused(size: int) -> None:
    with pytest.raises(SourceCorrupt, match="too short"):
        read(bytes(size))


def test_a_header_that_claims_to_be_huge_is_not_read() -> None:
    claim = (2**63).to_bytes(8, "little") + bytes(100)
    with pytest.raises(SourceCorrupt, match="claims"):
        read(claim, size=2**49)


def test_a_header_longer_than_its_file_is_refused() -> None:
    with pytest.raises(SourceCorrupt, match="claims 1000 bytes"):
        read((1000).to_bytes(8, "little") + bytes(100))


def test_a_server_that_stops_sending_does_not_hang_the_reader() -> None:
    start = (50_000).to_bytes(8, "little") + bytes(100)
    with pytest.raises(SourceCorrupt, match="ends inside"):
        read(start, size=60_000)


def shards() -> dict[str, Header]:
    table = {"1.safetensors": {"a": entry()}, "2.safetensors": {"b": entry()}}
    return {
        name: st_header.parse(name, 8 + len(raw) + 8, raw)
        for name, part in table.items()
        for raw in [json.dumps(part).encode()]
    }


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "1.safetensors", "b": "3.safetensors"}, "does not hold"),
        ({"a": "1.safetensors", "b": "1.safetensors"}, "'b' is not in 1.safetensors"),
        ({"a": "1.safetensors"}, "'b' is not in index"),
        ({"a": "1.safetensors", "b": "../2.safetensors"}, "does not hold"),
        ({"a": 1, "b": 2}, "does not hold"),
        ({}, "no weight_map"),
        (None, "no weight_map"),
    ],
)
def test_an_index_that_disagrees_with_the_shards_is_refused(weight_map: Any, message: str) -> None:
    with pytest.raises(SourceCorrupt, match=message):
        st_header.check_index("index", json.dumps({"weight_map": weight_map}), shards())


def test_an_index_that_agrees_is_accepted() -> None:
    weight_map = {"a": "1.safetensors", "b": "2.safetensors"}
    st_header.check_index("index", json.dumps({"weight_map": weight_map}), shards())
    assert set(st_header.merge(shards().values())) == {"a", "b"}


def test_a_tensor_in_two_shards_is_refused() -> None:
    one = shards()["1.safetensors"]
    with pytest.raises(SourceCorrupt, match=r"also in 1\.safetensors"):
        st_header.merge([one, one.model_copy(update={"file": "2.safetensors"})])


@given(st.binary(max_size=400))
def test_any_bytes_are_either_a_header_or_source_corrupt(data: bytes) -> None:
    try:
        header = read(data)
    except SourceCorrupt:
        return
    assert header.tensors


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
almost = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "U8", "X"]) | json_values,
        "shape": st.lists(st.integers(-1, 2**66), max_size=4) | json_values,
        "data_offsets": st.lists(st.integers(-1, 64), max_size=3) | json_values,
    }
)


@given(st.dictionaries(st.text(min_size=1, max_size=6), almost | json_values, max_size=5), st.integers(0, 64))
def test_any_table_that_is_accepted_covers_its_data_exactly_once(table: dict[str, Any], size: int) -> None:
    try:
        header = read(raw_safetensors(table, bytes(size)))
    except SourceCorrupt:
        return
    covered = sorted((t.begin, t.end) for t in header.tensors.values())
    assert covered[0][0] == 0
    assert covered[-1][1] == size
    assert all(left[1] == right[0] for left, right in pairwise(covered))
    assert all(t.elements >= 0 for t in header.tensors.values())
