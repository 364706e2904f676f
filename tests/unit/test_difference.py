"""How two weight files differ: GGUF and safetensors by tensor and metadata, others by byte. None is trusted."""

from __future__ import annotations

import json
import math
import mmap
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import difference, gguf_header
from bot.errors import SourceCorrupt

F32, F16, Q8_0, BF16 = 0, 1, 8, 30


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(
    tensors: dict[str, tuple[int, list[int], bytes]], name: str = "Phi", words: tuple[str, ...] = ("a",)
) -> bytes:
    """A GGUF file with a name and a list of words."""
    keys = text("general.name") + struct.pack("<I", 8) + text(name)
    keys += text("tokenizer.words") + struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(text, words))
    keys += text("phi.sizes") + struct.pack("<IIQ2I", 9, 4, 2, 7, 8)
    records, data = b"", b""
    for label, (kind, dims, content) in tensors.items():
        records += text(label) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += content + bytes(-len(content) % 32)
    head = gguf_header.MAGIC + struct.pack("<IQQ", 3, len(tensors), 3) + keys + records
    return head + bytes(-len(head) % 32) + data


def safetensors(dtype: str, tensors: dict[str, bytes], width: int) -> bytes:
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for label, content in tensors.items():
        place = [len(data), len(data) + len(content)]
        head[label] = {"dtype": dtype, "shape": [len(content) // width], "data_offsets": place}
        data += content
    raw = json.dumps(head).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def said(tmp_path: Path, rebuilt: bytes, published: bytes) -> list[str]:
    for name, content in (("rebuilt", rebuilt), ("published", published)):
        (tmp_path / name).write_bytes(content)
    return [*difference.explained(tmp_path / "rebuilt", tmp_path / "published")]


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_a_float_tensor_is_named_with_how_far_its_values_are_apart(tmp_path: Path) -> None:
    ours = gguf({"norm": (F32, [3], floats(1, 2, 3)), "other": (F32, [1], floats(1))})
    theirs = gguf({"norm": (F32, [3], floats(1, 2.5, 2.75)), "other": (F32, [1], floats(1))})
    assert said(tmp_path, ours, theirs) == ["tensor norm (F32 [3]): 2 values differ, by 0.5 at most"]


@pytest.mark.parametrize(
    ("kind", "name", "one", "two"),
    [
        (F16, "F16", struct.pack("<2e", 1, 2), struct.pack("<2e", 1, 2.25)),
        (BF16, "BF16", floats(1)[2:] + floats(2)[2:], floats(1)[2:] + floats(2.25)[2:]),
    ],
)
def test_half_precision_is_read_as_numbers(tmp_path: Path, kind: int, name: str, one: bytes, two: bytes) -> None:
    [line] = said(tmp_path, gguf({"w": (kind, [2], one)}), gguf({"w": (kind, [2], two)}))
    assert line == f"tensor w ({name} [2]): 1 values differ, by 0.25 at most"
    [line] = said(tmp_path, safetensors(name, {"w": one}, 2), safetensors(name, {"w": two}, 2))
    assert line == f"tensor w ({name} [2]): 1 values differ, by 0.25 at most"


def test_of_quantized_tensors_the_bytes_are_counted(tmp_path: Path) -> None:
    ours, theirs = bytes(34), b"\1\2" + bytes(32)
    [line] = said(tmp_path, gguf({"w": (Q8_0, [32], ours)}), gguf({"w": (Q8_0, [32], theirs)}))
    assert line == "tensor w (Q8_0 [32]): 2 of 64 bytes differ"


def test_no_number_is_infinitely_far_and_signs_of_zero_are_no_distance(tmp_path: Path) -> None:
    ours = gguf({"w": (F32, [2], floats(math.nan, 1)), "z": (F32, [1], floats(0.0))})
    theirs = gguf({"w": (F32, [2], floats(1, 1)), "z": (F32, [1], floats(-0.0))})
    assert said(tmp_path, ours, theirs) == [
        "tensor w (F32 [2]): 1 values differ, by inf at most",
        "tensor z (F32 [1]): the same values in other bits",
    ]


def test_metadata_types_and_missing_tensors_are_named(tmp_path: Path) -> None:
    ours = gguf({"a": (F32, [1], floats(1)), "b": (F32, [1], floats(1))}, "Phi", ("x",))
    theirs = gguf({"b": (F16, [2], bytes(4)), "c": (F32, [1], floats(1))}, "Phy", ("y",))
    assert said(tmp_path, ours, theirs) == [
        "metadata general.name: 'Phi' rebuilt, 'Phy' published",
        "metadata tokenizer.words: a list rebuilt, a list published",
        "tensor a is only in the rebuilt file",
        "tensor b: F32 [1] rebuilt, F16 [2] published",
        "tensor c is only in the published file",
    ]


def test_only_the_first_differences_are_listed(tmp_path: Path) -> None:
    ours = {f"t{i:02}": (F32, [1], floats(1)) for i in range(30)}
    theirs = {f"t{i:02}": (F32, [1], floats(2)) for i in range(30)}
    lines = said(tmp_path, gguf(ours), gguf(theirs))
    assert len(lines) == difference.MOST + 1
    assert lines[-1] == "10 more differences"


def test_of_a_very_different_tensor_not_all_of_it_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "BLOCK", 4)
    monkeypatch.setattr(difference, "MOST_BLOCKS", 2)
    ours, theirs = (gguf({"w": (F32, [4], floats(*[value] * 4))}) for value in (1.0, 2.0))
    assert said(tmp_path, ours, theirs) == ["tensor w (F32 [4]): at least 2 values differ, by 1 at most"]


def test_the_same_tensors_in_another_order_are_laid_out_otherwise(tmp_path: Path) -> None:
    one, two = (F32, [1], floats(1)), (F32, [1], floats(2))
    lines = said(tmp_path, gguf({"a": one, "b": two}), gguf({"b": two, "a": one}))
    assert lines == ["the same metadata and tensors, laid out otherwise"]


def test_of_other_files_the_first_byte_is_told(tmp_path: Path) -> None:
    assert said(tmp_path, b"abcd", b"abXd") == ["byte 2 is the first that differs"]
    assert said(tmp_path, b"abcd", b"ab") == ["4 bytes rebuilt, 2 published"]
    assert said(tmp_path, b"", b"ab") == ["one of them is empty"]


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    ours, theirs = gguf({"w" * 5000: (F32, [1], floats(1))}), gguf({"v": (F32, [1], floats(1))})
    assert max(map(len, said(tmp_path, ours, theirs))) < 200


def test_a_file_that_only_looks_like_gguf_is_compared_by_its_bytes(tmp_path: Path) -> None:
    good = gguf({"w": (F32, [1], floats(1))})
    assert said(tmp_path, good, b"GGUF" + b"\xff" * len(good))[-1] == "byte 4 is the first that differs"


def read(path: Path, content: bytes) -> gguf_header.GgufHeader:
    path.write_bytes(content)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return gguf_header.read("f", view)


@pytest.mark.parametrize(
    "content",
    [
        b"GGUF",
        b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 63),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 99),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 62),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(gguf_header.ALIGNMENT) + struct.pack("<II", 4, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<I", 1 << 30),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<IQIQ", 1, 1, 0, 1 << 62),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (text("k") + struct.pack("<II", 4, 0)),
    ],
)
def test_a_header_that_claims_too_much_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceCorrupt, match="is not a GGUF file that can be read: "):
        read(tmp_path / "f", content)


WHOLE = gguf({"w": (F32, [2], floats(1, 2)), "v": (F16, [2], bytes(4))})


@given(at=st.integers(0, len(WHOLE) - 1), bits=st.integers(1, 255), cut=st.integers(1, len(WHOLE)))
def test_whatever_byte_is_changed_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, bits: int, cut: int
) -> None:
    data = bytearray(WHOLE)
    data[at] ^= bits
    folder = tmp_path_factory.mktemp("changed")
    assert said(folder, WHOLE, bytes(data))
    assert cut == len(WHOLE) or said(folder, WHOLE, bytes(data[:cut]))
