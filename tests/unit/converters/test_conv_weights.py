from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.base import ConverterError
from converters.weights import survey, tensors

CODES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def save(folder: Path, values: Mapping[str, tuple[str, np.ndarray]], name: str = "model.safetensors") -> Path:
    header, data = {}, b""
    for key, (dtype, array) in values.items():
        raw = array.tobytes()
        header[key] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path = folder / name
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def bf16(values: list[float]) -> np.ndarray:
    return (np.array(values, dtype="<f4").view("<u4") >> 16).astype("<u2")


def test_a_survey_counts_parameters_and_finds_the_largest(tmp_path: Path) -> None:
    save(tmp_path, {"a": ("BF16", bf16([1.0, -70000.0, 0.5])), "b": ("F32", np.ones((2, 3), "<f4"))})
    found = survey(tmp_path)
    assert found.parameters == 9
    assert found.dtypes == ("BF16", "F32")
    assert found.largest == pytest.approx(70000, rel=0.01)
    assert found.largest_tensor == "a"
    assert not found.fits_float16


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_value_that_is_no_number_names_its_tensor(tmp_path: Path, dtype: str, bad: float) -> None:
    values = [0.0, bad, 1.0]
    array = bf16(values) if dtype == "BF16" else np.array(values, CODES[dtype])
    save(tmp_path, {"fine": ("F32", np.ones(2, "<f4")), "model.layers.0.mlp.weight": (dtype, array)})
    with pytest.raises(ConverterError, match=r"model\.layers\.0\.mlp\.weight") as caught:
        survey(tmp_path)
    assert caught.value.code == "source_corrupt"


@given(cut=st.integers(1, 200))
def test_a_file_cut_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = save(folder, {"a": ("F32", np.ones(64, "<f4"))})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ConverterError, match="cut short") as caught:
        survey(folder)
    assert caught.value.code == "source_corrupt"


def test_a_shard_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    save(tmp_path, {"a": ("F32", np.ones(2, "<f4"))}, "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConverterError, match="00002-of-00002"):
        tensors(tmp_path)


def test_a_source_without_weights_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="no safetensors"):
        survey(tmp_path)
