"""What is reported about a variant's weights: nothing of an ordinary model, and the one matrix that was planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conv_mill import INT4, MODEL, Q8_0, Mill
from planted import PLANTED, plant

from bot import recipes
from bot.measures import WeightErrors

pytestmark = pytest.mark.backend

GGUF = {
    "Q4_K_M": INT4,
    "Q4_0": {"type": "Q4_0", "imatrix": True},
    "Q8_0": Q8_0,
    "F16": {"outtype": "f16"},
    "BF16": {"outtype": "bf16"},
    "Q6_K": {"type": "Q6_K"},
    "IQ3_M": {"type": "IQ3_M", "imatrix": True},
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(MODEL, tmp_path_factory.mktemp("planted") / "source")


def compared(mill: Mill, reference: Path, backend: str, artifact: Path, source: Path = MODEL) -> WeightErrors:
    """What measuring an artifact says about its weights."""
    found: Any = mill.measure(artifact, reference, backend, source=source)["weights"]
    return WeightErrors.model_validate(found)


def made(mill: Mill, folder: Path, recipe: str, source: Path = MODEL) -> Path:
    """Make a recipe as it stands in the backend's own file."""
    [wanted] = recipes.by_id([recipe])
    backend = recipe.partition("/")[0]
    request = {"id": wanted.id, "file": wanted.file, "options": wanted.options}
    answer = mill.ask(backend, mill.request_of(folder, request, source=str(source)))
    assert answer.code == 0, answer.last
    return folder / "out" / answer.last["files"][0]


@pytest.mark.parametrize("file", GGUF)
def test_of_the_untouched_model_no_gguf_has_a_matrix_that_stands_out(mill: Mill, reference: Path, file: str) -> None:
    found = compared(mill, reference, "gguf", mill.artifact(file, GGUF[file]))
    assert (found.compared + found.without_siblings, found.not_found, found.stand_out) == (26, 0, 0)


def test_a_split_gguf_is_compared_whole(mill: Mill, reference: Path, tmp_path: Path) -> None:
    answer = mill.convert(tmp_path, "Q8_0", Q8_0, split_bytes=2_000_000)
    found = compared(mill, reference, "gguf", tmp_path / "out" / answer.last["files"][0])
    assert (found.compared, found.without_siblings, found.not_found, found.stand_out) == (24, 2, 0, 0)


def test_without_the_source_weights_are_not_compared(mill: Mill, reference: Path) -> None:
    assert mill.measure(mill.artifact("Q8_0", Q8_0), reference)["weights"] is None


# That none of all that is published has one, the whole matrix shows.
@pytest.mark.parametrize(
    ("recipe", "parts", "not_found"),
    [
        ("mlx/int4-cookbook", 26, 0),
        # The builder cuts gate and up apart, and looks up the embedding without a product.
        ("onnx/int8", 31, 1),
        ("openvino/int8", 26, 0),
    ],
)
def test_of_the_untouched_model_no_other_variant_has_one(
    mill: Mill, reference: Path, tmp_path: Path, recipe: str, parts: int, not_found: int
) -> None:
    found = compared(mill, reference, recipe.partition("/")[0], made(mill, tmp_path, recipe))
    assert (found.compared + found.without_siblings, found.not_found, found.stand_out) == (parts, not_found, 0)
    assert found.groups >= 2


@pytest.mark.parametrize(
    "recipe", ["mlx/int4-cookbook", "mlx/int8-short-context", "onnx/int4-cookbook", "onnx/int8", "openvino/int8"]
)
def test_the_planted_matrix_is_named_in_each_backend(
    mill: Mill, reference: Path, tmp_path: Path, planted: Path, recipe: str
) -> None:
    artifact = made(mill, tmp_path, recipe, planted)
    found = compared(mill, reference, recipe.partition("/")[0], artifact, planted)
    assert [outlier.tensor for outlier in found.outliers] == [PLANTED]
