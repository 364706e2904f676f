from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converters.logprobs import SPAN, Comparison, Meta, Reader, Writer, decode, encode, log_softmax

LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(2, 40)), elements=st.floats(-30, 30, width=32)
)


def write(folder: Path, sequences: list[list[int]], logits: list[np.ndarray], windows: int) -> Reader:
    writer = Writer(folder, Meta(logits[0].shape[1], tuple(map(tuple, sequences)), windows))
    for ids, values in zip(sequences, logits, strict=True):
        writer.add(ids, values)
    writer.close()
    return Reader(folder)


def straightforward_kl(p_logits: np.ndarray, q_logits: np.ndarray) -> np.ndarray:
    p = np.exp(p_logits.astype(np.float64))
    q = np.exp(q_logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    q /= q.sum(axis=1, keepdims=True)
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


@given(LOGITS)
def test_a_row_comes_back_within_half_a_step(logits: np.ndarray) -> None:
    values = log_softmax(logits)
    top, step, codes = encode(values)
    back = top[:, None].astype(np.float64) - codes.astype(np.float64) * step[:, None].astype(np.float64)
    near = values > values.max(axis=1, keepdims=True) - SPAN + 1e-3
    assert np.all(np.abs(back - values)[near] <= 0.5 * np.broadcast_to(step[:, None], values.shape)[near] + 1e-5)


@given(LOGITS)
def test_a_decoded_row_sums_to_one(logits: np.ndarray) -> None:
    assert np.allclose(np.exp(decode(*encode(log_softmax(logits)))).sum(axis=1), 1.0, atol=1e-12)


@given(LOGITS)
def test_sixteen_bits_cost_less_than_1e_7_nats(logits: np.ndarray) -> None:
    values = log_softmax(logits)
    back = decode(*encode(values))
    assert np.all((np.exp(back) * (back - values)).sum(axis=1) < 1e-7)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_divergence_equals_a_straightforward_computation(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [list(map(int, rng.integers(0, 50, 40))), list(map(int, rng.integers(0, 50, 7)))]
    source = [rng.normal(0, 4, (len(i), 50)).astype(np.float32) for i in ids]
    variant = [s + rng.normal(0, 0.3, s.shape).astype(np.float32) for s in source]
    comparison = Comparison(write(tmp_path_factory.mktemp("ref"), ids, source, 1))
    for at, logits in enumerate(variant):
        comparison.add(at, logits)
    kl = np.concatenate([straightforward_kl(a, b) for a, b in zip(source, variant, strict=True)])
    agree = np.concatenate([a.argmax(1) == b.argmax(1) for a, b in zip(source, variant, strict=True)])
    got = comparison.summary()
    # Sixteen bits move a divergence this large by some millionths of a nat.
    assert got["kl_mean"] == pytest.approx(kl.mean(), rel=1e-4, abs=1e-5)
    assert got["kl_p99"] == pytest.approx(np.percentile(kl, 99), rel=1e-3, abs=1e-5)
    assert got["top1"] == agree.mean()
    assert got["perplexity_ratio"] == pytest.approx(
        np.exp(np.mean(losses(ids, variant)) - np.mean(losses(ids, source))), rel=1e-5
    )


def losses(sequences: list[list[int]], logits: list[np.ndarray]) -> list[float]:
    return [
        -float(log_softmax(values)[at, ids[at + 1]])
        for ids, values in zip(sequences, logits, strict=True)
        for at in range(len(ids) - 1)
    ]


def test_a_model_compared_with_itself_is_at_no_distance(tmp_path: Path) -> None:
    logits = np.random.default_rng(1).normal(0, 5, (64, 300)).astype(np.float32)
    comparison = Comparison(write(tmp_path, [list(range(64))], [logits], 1))
    comparison.add(0, logits)
    got = comparison.summary()
    assert 0.0 <= got["kl_mean"] < 2e-8
    assert got["top1"] == 1.0
    assert got["perplexity_ratio"] == pytest.approx(1.0, abs=1e-6)


def test_the_perplexity_leaves_out_what_has_no_next_token(tmp_path: Path) -> None:
    uniform = np.zeros((4, 8), dtype=np.float32)
    reader = write(tmp_path, [[1, 2, 3, 4], [5, 6, 7, 0]], [uniform, uniform * 9], 1)
    assert reader.perplexity() == pytest.approx(8.0)


def test_a_folder_that_is_being_written_again_is_not_read(tmp_path: Path) -> None:
    reader = write(tmp_path, [[1, 2]], [np.zeros((2, 4), dtype=np.float32)], 1)
    Writer(tmp_path, reader.meta)
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path)
