"""People pull what was published with their own tools, and set nothing but HF_ENDPOINT and HF_TOKEN."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hub_world import BIN, BOT, HERE, MICROSOFT, MODEL, SOURCE, TARGET, run, weights
from published import Published

pytestmark = pytest.mark.backend

Q4 = f"{MODEL}-Q4_K_M.gguf"


def test_hf_upload_and_hf_download_bring_a_folder_there_and_back(pull_env: dict[str, str], tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    (there / "notes.md").write_text("# Notes\n")
    (there / "weights.safetensors").write_bytes(bytes(range(256)) * 4096)
    repo = f"{BOT}/notes"
    sent = run([BIN / "hf", "upload", repo, there, "."], pull_env)
    assert sent.code == 0, sent.err
    got = run([BIN / "hf", "download", repo, "--local-dir", back], pull_env)
    assert got.code == 0, got.err
    for path in there.iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()


def test_hf_models_ls_finds_the_conversion(pull_env: dict[str, str]) -> None:
    command = [BIN / "hf", "models", "ls", "--filter", f"base_model:quantized:{SOURCE}", "-q"]
    listed = run(command, pull_env)
    assert listed.code == 0, listed.err
    assert listed.out.split() == [TARGET]


def test_hf_repos_tag_create_makes_a_tag_that_can_be_pulled(
    published: Published, pull_env: dict[str, str], tmp_path: Path
) -> None:
    made = run([BIN / "hf", "repos", "tag", "create", TARGET, "by-hand", "--revision", "v1.0"], pull_env)
    assert made.code == 0, made.err
    api = published.world.reader
    try:
        assert published.world.tags()["by-hand"] == published.world.tags()["v1.0"]
        command = [BIN / "hf", "download", TARGET, "README.md", "--revision", "by-hand", "-q"]
        assert run([*command, "--local-dir", tmp_path / "got"], pull_env).code == 0
    finally:
        api.delete_tag(TARGET, tag="by-hand")


def test_snapshot_download_pulls_the_tag_whole(published: Published, pull_env: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    code = "import sys, huggingface_hub as h; h.snapshot_download(sys.argv[1], revision='v1.0', local_dir=sys.argv[2])"
    pulled = run([BIN / "python", "-c", code, TARGET, folder], pull_env)
    assert pulled.code == 0, pulled.err
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {path for path in found if not path.startswith(".cache/")} == set(published.world.files("v1.0"))


def test_transformers_loads_tokenizer_and_config_of_a_tag(
    published: Published, pull_env: dict[str, str], toolchains: dict[str, Path], tmp_path: Path
) -> None:
    theirs = {**pull_env, "HF_TOKEN": published.world.hub.token(MICROSOFT), "HF_HOME": str(tmp_path / "theirs")}
    tagged = run([BIN / "hf", "repos", "tag", "create", SOURCE, "v1.0"], theirs)
    assert tagged.code == 0, tagged.err
    code = """
import json, sys
from transformers import AutoConfig, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], revision="v1.0")
config = AutoConfig.from_pretrained(sys.argv[1], revision="v1.0")
ids = tokenizer.encode("In the beginning", add_special_tokens=False)
print(json.dumps({"type": config.model_type, "vocab": config.vocab_size, "back": tokenizer.decode(ids)}))
"""
    loaded = run([toolchains["reference"], "-c", code, SOURCE], pull_env)
    published.world.api(MICROSOFT).delete_tag(SOURCE, tag="v1.0")
    assert loaded.code == 0, loaded.err
    assert loaded.json == {"type": "phi3", "vocab": 2048, "back": "In the beginning"}


def test_llama_cpp_pulls_one_file_by_its_pattern_and_speaks(
    published: Published, pull_env: dict[str, str], toolchains: dict[str, Path]
) -> None:
    code = """
import json, sys
from llama_cpp import Llama
llm = Llama.from_pretrained(sys.argv[1], filename="*Q4_K_M.gguf", n_ctx=512, verbose=False)
said = llm("And the Lord said", max_tokens=16, temperature=0)["choices"][0]
print(json.dumps({"path": llm.model_path, "text": said["text"], "metadata": llm.metadata}))
"""
    spoken = run([toolchains["gguf"], "-c", code, TARGET], pull_env)
    assert spoken.code == 0, spoken.err
    told = spoken.json
    assert Path(told["path"]).name == Q4
    assert re.search(r"[A-Za-z]{3}", told["text"])
    about = {name.removeprefix("general."): value for name, value in told["metadata"].items()}
    assert about["source.repo_url"].endswith(SOURCE)
    assert about["license"] == "apache-2.0"
    assert about["quantized_by"]


def test_the_cards_own_python_snippet_runs(
    published: Published, pull_env: dict[str, str], toolchains: dict[str, Path]
) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", published.world.read("README.md").decode(), re.DOTALL)
    ran = run([toolchains["gguf"], "-c", snippet], pull_env)
    assert ran.code == 0, ran.err
    assert ran.out.strip()


def test_the_figures_on_the_card_are_what_a_separate_script_computes(
    published: Published, pull_env: dict[str, str], toolchains: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing of the mill's is used: `independent_kl.py` has its own PyTorch and llama.cpp code.

    It keeps the source's log-probabilities in 64 bits where the mill keeps 16 (2e-8 nats at worst), and
    llama.cpp's sums depend on how work is cut into batches and threads (some 1e-8 nats more). So figures agree
    to 1 %, or to 5e-8 nats where the divergence itself is of that size.
    """
    source, files = tmp_path / "source", tmp_path / "files"
    for repo, revision, folder in ((SOURCE, published.sha, source), (TARGET, "v1.0", files)):
        command = [BIN / "hf", "download", repo, "--revision", revision, "--local-dir", folder]
        assert run(command, pull_env).code == 0
    script, rows = HERE / "independent_kl.py", tmp_path / "rows.npz"
    text = HERE.parents[1] / "converters" / "text" / "evaluation.txt"
    made = run([toolchains["reference"], script, "source", source, text, rows], pull_env)
    assert made.code == 0, made.err
    names = [f"{MODEL}-{quant}.gguf" for quant in ("F16", "Q8_0", "Q4_K_M")]
    compared = run([toolchains["gguf"], script, "compare", rows, *(files / name for name in names)], pull_env)
    assert compared.code == 0, compared.err
    computed = json.loads(compared.out.splitlines()[-1])
    receipt = published.world.receipt("v1.0")
    told = {v["files"][0]["path"]: v["fidelity"] for v in receipt["variants"]}
    for name, limit in zip(names, (1e-6, 1e-4, 1.6e-3), strict=True):
        assert told[name]["kl_mean"] <= limit, name
        assert computed[name]["kl_mean"] == pytest.approx(told[name]["kl_mean"], rel=0.01, abs=5e-8), name
        assert computed[name]["top1"] == pytest.approx(told[name]["top1"], abs=2 / 2048), name
        # The card rounds to two digits.
        assert float(_on_the_card(published, name)) == pytest.approx(computed[name]["kl_mean"], rel=0.07)


def _on_the_card(published: Published, name: str) -> str:
    """The mean KL in the card's table of variants."""
    lines = published.world.read("README.md", "v1.0").decode().splitlines()
    (row,) = [line for line in lines if f"`{name}`" in line and line.startswith("|")]
    (header,) = [line for line in lines if line.startswith("| Variant |")]
    place = [cell.strip() for cell in header.split("|")].index("Mean KL")
    return [cell.strip() for cell in row.split("|")][place]


def test_the_files_that_are_pulled_are_the_ones_that_were_measured(published: Published) -> None:
    receipt = published.world.receipt("v1.0")
    measured = {f["path"]: f["sha256"] for v in receipt["variants"] for f in v["files"]}
    listed = weights(published.world.files("v1.0"))
    assert measured.items() <= listed.items()
