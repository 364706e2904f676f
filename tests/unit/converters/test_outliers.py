from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_conv_weights import bf16, save

from bot.measures import WeightErrors
from converters.base import Events
from converters.outliers import BLOCKS, ELEMENTS, REPORTED, Find, Restored, blocks, outliers, report
from converters.weights import TensorRef, rows

# Siblings that differ by a tenth at most, as those of models do.
NEAR = st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=60).map(lambda noise: [0.07 * math.exp(x) for x in noise])
Change = Callable[[str, Any], Any]


@given(NEAR)
def test_siblings_that_differ_a_little_do_not_stand_out(errors: list[float]) -> None:
    assert outliers(errors) == []


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [4, 6, 32, 400])
def test_lognormal_noise_of_a_twentieth_does_not_stand_out(seed: int, count: int) -> None:
    assert outliers(0.07 * np.random.default_rng(seed).lognormal(0, 0.05, count)) == []


@given(NEAR, st.data(), st.sampled_from([4, 1 / 4]))
def test_one_that_is_far_from_its_siblings_is_found_and_no_other(
    errors: list[float], data: st.DataObject, factor: float
) -> None:
    at = data.draw(st.integers(0, len(errors) - 1))
    errors[at] *= factor
    assert outliers(errors) == [at]


@given(NEAR, st.sampled_from([2, 1 / 2, 8]))
def test_the_unit_of_errors_does_not_matter(errors: list[float], factor: float) -> None:
    errors[1] *= 5
    assert outliers(errors) == outliers([factor * error for error in errors]) == [1]


@given(NEAR, st.randoms(use_true_random=False))
def test_the_order_of_siblings_does_not_matter(errors: list[float], random: Any) -> None:
    errors[1] *= 5
    order = list(range(len(errors)))
    random.shuffle(order)
    assert [order[at] for at in outliers([errors[at] for at in order])] == [1]


def test_equal_siblings_need_more_than_a_trifle_to_stand_out() -> None:
    assert outliers([0.07, 0.07, 0.07, 0.07, 0.085]) == []
    assert outliers([0.07, 0.07, 0.07, 0.07, 0.09]) == [4]


def test_among_siblings_that_differ_widely_none_stands_out() -> None:
    assert outliers([0.01, 0.02, 0.04, 0.08, 0.16]) == []


def test_a_change_of_type_never_stands_out() -> None:
    assert outliers([0.0, 0.0, 0.0, 4e-4]) == []


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_blocks_lie_within_a_matrix_apart_and_up_to_its_ends(count: int, columns: int) -> None:
    found = blocks(count, columns)
    assert found[0].start == 0
    assert found[-1].stop == count
    assert all(a.stop <= b.start for a, b in itertools.pairwise(found))
    assert sum(b.stop - b.start for b in found) * columns <= max(ELEMENTS, BLOCKS * columns)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_rows_of_a_source_are_read_as_they_are(tmp_path: Path, dtype: str) -> None:
    values = np.arange(12, dtype="<f4").reshape(4, 3) - 5
    stored = {"BF16": bf16(values.ravel().tolist()).reshape(4, 3), "F16": values.astype("<f2"), "F32": values}[dtype]
    file = save(tmp_path, {"first": ("F32", np.ones(2, "<f4")), "w": (dtype, stored)})
    start = file.stat().st_size - stored.nbytes
    ref = TensorRef("w", file, dtype, (4, 3), start, start + stored.nbytes)
    assert (rows(ref, slice(1, 3)) == values[1:3]).all()


def layers(folder: Path, count: int = 6) -> Path:
    """A source of so many layers of one matrix each, and with one matrix that has no siblings."""
    noise = np.random.default_rng(0)
    matrix = {f"model.layers.{n}.mlp.down_proj.weight": noise.standard_normal((8, 32), "<f4") for n in range(count)}
    matrix["lm_head.weight"] = noise.standard_normal((8, 32), "<f4")
    norm = {"model.norm.weight": ("F32", np.ones(32, "<f4"))}
    save(folder, {name: ("F32", values) for name, values in matrix.items()} | norm)
    return folder


def rounded(name: str, values: Any) -> Any:
    """To steps of a tenth, and in layer 3 of a half."""
    step = 0.5 if ".3." in name else 0.1
    return np.round(values / step) * step


def held(change: Change, kind: Callable[[str], str] = lambda _name: "Q4") -> Find:
    """An artifact that holds every matrix, changed."""

    def find(tensor: TensorRef) -> list[Restored]:
        return [Restored(kind(tensor.name), 0, 8, lambda part: change(tensor.name, rows(tensor, part)))]

    return find


def reported(source: Path, find: Find) -> tuple[WeightErrors, list[dict[str, Any]]]:
    """What is reported, as the mill reads it, and what was said meanwhile."""
    stream = io.StringIO()
    found = WeightErrors.model_validate(json.loads(json.dumps(report(source, find, Events(stream)), allow_nan=False)))
    return found, [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_matrix_that_stands_out_is_named_with_its_error_and_the_usual_one(tmp_path: Path) -> None:
    found, said = reported(layers(tmp_path), held(rounded))
    assert (found.compared, found.groups, found.without_siblings, found.not_found) == (6, 1, 1, 0)
    [outlier] = found.outliers
    assert (outlier.tensor, outlier.kind) == ("model.layers.3.mlp.down_proj.weight", "Q4")
    assert outlier.error == pytest.approx(0.5 / math.sqrt(12), rel=0.1)
    assert outlier.usual == pytest.approx(0.1 / math.sqrt(12), rel=0.1)
    [warning] = [event for event in said if event["event"] == "log"]
    assert warning["level"] == "warning"
    assert outlier.tensor in warning["text"]


def test_matrices_of_another_type_are_no_siblings(tmp_path: Path) -> None:
    found, _ = reported(layers(tmp_path), held(rounded, lambda name: "Q2" if ".3." in name else "Q4"))
    assert (found.compared, found.without_siblings, found.stand_out) == (5, 2, 0)


def test_fewer_than_four_siblings_are_not_judged(tmp_path: Path) -> None:
    found, _ = reported(layers(tmp_path, 3), held(rounded))
    assert (found.compared, found.groups, found.without_siblings) == (0, 0, 4)


def test_what_cannot_be_told_is_counted_and_not_guessed(tmp_path: Path) -> None:
    whole = held(rounded)
    found, _ = reported(layers(tmp_path), lambda tensor: [] if ".0." in tensor.name else whole(tensor))
    assert (found.compared, found.not_found) == (5, 1)


def test_parts_of_a_matrix_are_compared_each_with_its_own_siblings(tmp_path: Path) -> None:
    def find(tensor: TensorRef) -> list[Restored]:
        def lower(part: slice) -> Any:
            return rounded(tensor.name, rows(tensor, slice(4 + part.start, 4 + part.stop)))

        return [Restored("Q4", 0, 4, lambda part: rows(tensor, part), "gate"), Restored("Q4", 4, 4, lower, "up")]

    found, _ = reported(layers(tmp_path), find)
    assert found.compared == 12
    assert [outlier.tensor for outlier in found.outliers] == ["model.layers.3.mlp.down_proj.weight (up)"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
@pytest.mark.filterwarnings("error")
def test_what_is_no_number_stands_out_and_breaks_no_json(tmp_path: Path, bad: float) -> None:
    found, _ = reported(layers(tmp_path), held(lambda name, values: values + (bad if ".2." in name else 0.01)))
    assert [outlier.tensor for outlier in found.outliers] == ["model.layers.2.mlp.down_proj.weight"]


def test_no_more_are_reported_than_fit_and_the_farthest_first(tmp_path: Path) -> None:
    def change(name: str, values: Any) -> Any:
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        return values + 0.01 * (layer if 2 <= layer < 42 else 1)

    found, _ = reported(layers(tmp_path, 100), held(change))
    assert found.stand_out == 40
    assert len(found.outliers) == REPORTED
    assert found.outliers[0].tensor == "model.layers.41.mlp.down_proj.weight"
