from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conv_mill import INT4, MODEL, Q8_0, TEXT, Mill, Options

from bot.measures import Fidelity
from converters.logprobs import NOT_FINITE

pytestmark = pytest.mark.backend

SOURCE = """
import sys, json, numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
text = open(sys.argv[2]).read().replace("\\n", " ")
ids = AutoTokenizer.from_pretrained(sys.argv[1])(text, add_special_tokens=False)["input_ids"]
windows = torch.tensor(ids[: 8 * 256]).reshape(8, 256)
with torch.no_grad():
    values = torch.stack([torch.log_softmax(model(w[None]).logits[0].double(), -1) for w in windows])
np.savez(sys.argv[3], ids=windows.numpy(), logprobs=values.numpy())
"""
VARIANT = """
import sys, numpy as np
from llama_cpp import Llama
source = np.load(sys.argv[2])
llm = Llama(sys.argv[1], n_ctx=256, n_batch=256, logits_all=True, verbose=False)
kl, top = [], []
for ids, p in zip(source["ids"], source["logprobs"]):
    llm.reset()
    llm.eval(ids.tolist())
    z = llm.scores[:256].astype(np.float64)
    q = z - z.max(1, keepdims=True)
    q = q - np.log(np.exp(q).sum(1, keepdims=True))
    kl.append((np.exp(p) * (p - q)).sum(1))
    top.append(p.argmax(1) == q.argmax(1))
print(np.mean(kl), np.percentile(kl, 99), np.mean(top))
"""
STREAMED = """
import sys, torch
from pathlib import Path
from converters.reference import evaluate
ids = list(range(5, 90))
whole = evaluate.load(Path(sys.argv[1]), 1)
expected = evaluate.logits_of(whole, ids), evaluate.greedy(whole, ids, [], 8)
evaluate.fits_in_memory = lambda needed, budget: False
streamed = evaluate.load(Path(sys.argv[1]), 1)
assert next(streamed.parameters()).dtype == torch.bfloat16
assert (evaluate.logits_of(streamed, ids) == expected[0]).all()
assert evaluate.greedy(streamed, ids, [], 8) == expected[1]
assert next(streamed.parameters()).dtype == torch.bfloat16
"""


@pytest.mark.parametrize(
    ("file", "options", "limit"),
    [
        ("F32", {"outtype": "f32"}, 1e-7),
        ("F16", {"outtype": "f16"}, 1e-6),
        ("BF16", {"outtype": "bf16"}, 1e-5),
        ("Q8_0", Q8_0, 1e-4),
        ("Q4_K_M", INT4, 1.3e-3),
        ("Q4_K_M-cookbook", {"type": "Q4_K_M"}, 1.8e-3),
        ("Q4_0", {"type": "Q4_0", "imatrix": True}, 2.8e-3),
    ],
)
def test_a_variant_stays_this_close_to_its_source(
    mill: Mill, reference: Path, file: str, options: Options, limit: float
) -> None:
    values = Fidelity(**mill.measure(mill.artifact(file, options), reference))
    assert 0 <= values.kl_mean <= limit
    assert values.kl_mean <= values.kl_p99 <= limit * 20
    assert values.top1 > 0.93
    assert values.perplexity_ratio == pytest.approx(1, abs=0.01)
    assert (values.windows, values.window_tokens) == (8, 256)
    assert values.finite
    assert values.tokenizer_agrees
    assert values.same_end_tokens
    assert len(values.samples) == 4
    assert all(sample.variant for sample in values.samples)


def test_the_recommended_int4_beats_the_cookbook_at_the_same_size(mill: Mill, reference: Path) -> None:
    best, plain = mill.artifact("Q4_K_M", INT4), mill.artifact("Q4_K_M-cookbook", {"type": "Q4_K_M"})
    assert best.stat().st_size <= 1.02 * plain.stat().st_size
    kl = [mill.measure(path, reference)["kl_mean"] for path in (best, plain)]
    assert kl[0] <= 0.8 * kl[1]


def test_an_independent_computation_gives_the_same_numbers(mill: Mill, reference: Path, tmp_path: Path) -> None:
    """The source from transformers and the file from llama.cpp's high-level API, without 16-bit rounding."""
    mill.run("reference", SOURCE, MODEL, TEXT / "evaluation.txt", tmp_path / "source.npz")
    for file, options, rel in (
        ("Q4_K_M", INT4, 0.01),
        ("Q8_0", Q8_0, 0.01),
        ("F16", {"outtype": "f16"}, 0.5),
    ):
        path = mill.artifact(file, options)
        kl, p99, top = map(float, mill.run("gguf", VARIANT, path, tmp_path / "source.npz").split())
        values = mill.measure(path, reference)
        assert values["kl_mean"] == pytest.approx(kl, rel=rel)
        assert values["kl_p99"] == pytest.approx(p99, rel=max(rel, 0.05))
        assert values["top1"] == pytest.approx(top, abs=0.002)


def test_the_unquantized_export_says_what_its_samples_say(mill: Mill, reference: Path) -> None:
    values = mill.measure(mill.artifact("F32", {"outtype": "f32"}), reference)
    for sample in values["samples"]:
        assert sample["variant"].strip() == sample["source"].strip()
        assert sample["common_prefix"] == 48
        assert sample["variant_stopped"] == sample["source_stopped"]


def test_a_baseline_splits_the_runtimes_error_from_the_quantizations(
    mill: Mill, reference: Path, tmp_path: Path
) -> None:
    full = mill.artifact("F16", {"outtype": "f16"})
    kept = mill.measure(full, reference, save_baseline=tmp_path / "baseline")
    assert kept["baseline_kl_mean"] is None
    same = mill.measure(full, reference, baseline=tmp_path / "baseline")
    assert same["baseline_kl_mean"] < 2e-8
    quantized = mill.measure(mill.artifact("Q8_0", Q8_0), reference, baseline=tmp_path / "baseline")
    assert quantized["baseline_kl_mean"] == pytest.approx(quantized["kl_mean"], rel=0.05)


def test_logits_that_are_no_numbers_fail_without_breaking_json(mill: Mill, reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    raw = bytearray(mill.artifact("F32", {"outtype": "f32"}).read_bytes())
    raw[-4096:] = np.full(1024, np.nan, "<f4").tobytes()
    path.write_bytes(raw)
    values = Fidelity(**mill.measure(path, reference, save_baseline=tmp_path / "baseline"))
    assert not values.finite
    assert values.kl_mean == NOT_FINITE
    assert not (tmp_path / "baseline" / "meta.json").exists()


def test_the_reference_keeps_within_the_original_context(mill: Mill, tmp_path: Path) -> None:
    answer = mill.reference(tmp_path / "reference", windows=2, window_tokens=4000)
    assert answer.code == 0, answer.last
    assert answer.last["window_tokens"] == 511
    assert mill.measure(mill.artifact("F16", {"outtype": "f16"}), tmp_path / "reference")["kl_mean"] < 1e-6


def test_the_reference_knows_how_good_the_source_is(mill: Mill, tmp_path: Path) -> None:
    answer = mill.reference(tmp_path / "reference")
    assert answer.last["perplexity"] == pytest.approx(72.5, abs=0.5)
    assert answer.last["end_tokens"] == [2041, 2046]
    assert answer.last["vocabulary"] == json.loads((MODEL / "config.json").read_text())["vocab_size"]


def test_a_source_too_large_for_memory_gives_the_same_logits(mill: Mill) -> None:
    mill.run("reference", STREAMED, MODEL)
