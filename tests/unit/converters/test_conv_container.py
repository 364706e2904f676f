from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.base import ConverterError
from converters.gguf import container

KEYS = [
    container.pack_string("general.name", "Phi"),
    container.pack_u32("phi3.block_count", 4),
    container.pack_strings("general.tags", ["phi", "tiny"]),
]


def make(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {f"blk.{i}.weight": rng.normal(size=(3, 5 + i)).astype(np.float32) for i in range(6)}
    container.write(path, KEYS, arrays.items())
    return arrays


def read(path: Path) -> dict[str, np.ndarray]:
    header = container.read_header(path)
    data = path.read_bytes()[header.data_start :]
    return {
        t.name: np.frombuffer(data, np.float32, int(np.prod(t.dims)), t.offset).reshape(t.dims[::-1])
        for t in header.tensors
    }


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    arrays = make(tmp_path / "a.gguf")
    header = container.read_header(tmp_path / "a.gguf")
    assert header.values == {"general.name": "Phi", "phi3.block_count": 4}
    assert header.key_value_count == 3
    found = read(tmp_path / "a.gguf")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_a_split_holds_every_tensor_once_and_says_its_place(tmp_path: Path) -> None:
    arrays = make(tmp_path / "a.gguf")
    parts = container.split(tmp_path / "a.gguf", 300)
    count = len(parts)
    assert count > 1
    assert [p.name for p in parts] == [f"a-{i + 1:05d}-of-{count:05d}.gguf" for i in range(count)]
    assert not (tmp_path / "a.gguf").exists()
    found = [(name, array) for part in parts for name, array in read(part).items()]
    assert [name for name, _ in found] == list(arrays)
    assert all(np.array_equal(array, arrays[name]) for name, array in found)
    marks = [container.read_header(part).values for part in parts]
    assert [m["split.no"] for m in marks] == list(range(count))
    assert {m["split.tensors.count"] for m in marks} == {6}
    assert marks[0]["general.name"] == "Phi"
    assert all("general.name" not in m for m in marks[1:])


@pytest.mark.parametrize("limit", [0, 10_000_000])
def test_a_file_that_fits_stays_whole(tmp_path: Path, limit: int) -> None:
    make(tmp_path / "a.gguf")
    assert container.split(tmp_path / "a.gguf", limit) == [tmp_path / "a.gguf"]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGML" + bytes(60))
    with pytest.raises(ConverterError, match="not a GGUF"):
        container.read_header(tmp_path / "a.gguf")
