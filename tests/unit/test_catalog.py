"""What is a Phi release, what it is made of, and what a change of its files means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import phi_repos
import pytest
from phi_repos import FolderHub, phi3_config, put

from bot import catalog, filenames
from bot.errors import SourceCorrupt, VerdictRefused
from bot.hub import RepoSummary
from bot.models import FileKind, Release, RepoRef, SourceFile
from bot.planner import drift
from bot.traits import rope, traits

REF = RepoRef(repo="microsoft/phi")


def look(name: str, folder: Path) -> Release:
    return catalog.release(FolderHub(phi_repos.write(name, folder)), REF)


def summary(**changes: Any) -> RepoSummary:
    told = {"repo": "microsoft/phi", "sha": "a" * 40, "architectures": ("Phi3ForCausalLM",)}
    return RepoSummary.model_validate({**told, "tags": ("safetensors",), **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"card": {"base_model": "microsoft/phi-4"}}, None),
        ({"card": {"base_model": ["microsoft/phi-4"], "base_model_relation": "finetune"}}, None),
        ({"tags": ("safetensors", "onnx")}, None),
        ({"card": {"phimill": {"schema_version": 1}}}, "made by phimill"),
        ({"card": {"base_model_relation": "quantized"}}, "derived"),
        ({"tags": ("base_model:quantized:microsoft/phi-4",)}, "derived"),
        ({"tags": ("safetensors", "mlx")}, "derived"),
        ({"tags": ("peft",)}, "derived"),
        ({"quantized": True}, "derived"),
        ({"tags": ("onnx",)}, "another format"),
        ({"tags": ("gguf",)}, "another format"),
        ({"card": {"base_model": "google/gemma"}}, "fine-tune"),
        ({"card": {"base_model": [None, "stranger/phi"]}}, "fine-tune"),
    ],
)
def test_what_is_made_from_a_release_is_not_a_release(changes: dict[str, Any], reason: str | None) -> None:
    found = catalog.why_not(summary(**changes), "microsoft")
    assert found is None if reason is None else reason in (found or "")


def test_a_release_carries_what_the_planner_and_the_card_need(tmp_path: Path) -> None:
    release = look("phi35_mini", tmp_path)
    assert (release.architecture, release.model_type, release.dtype) == (
        "Phi3ForCausalLM",
        "phi3",
        "bfloat16",
    )
    assert (release.license, release.language) == ("mit", ("en",))
    assert release.parameters == 114_880
    assert release.weight_bytes > 2 * release.parameters
    found = release.traits
    assert (found.longrope, found.original_context, found.context) == (True, 4096, 131072)
    assert (found.vocab, found.hidden, found.layers, found.heads) == (320, 64, 2, 4)
    assert (found.kv_heads, found.head_dim, found.tokenizer, found.remote_code) == (2, 16, "spm", False)


def test_the_real_trained_model_is_a_release(tiny_phi: Path) -> None:
    release = catalog.release(FolderHub(tiny_phi), REF)
    assert release.traits.longrope
    assert release.parameters == 6_163_712
    assert release.license == "apache-2.0"


@pytest.mark.parametrize(
    "name", ["phi35_mini", "phi3_mini_128k_before_june_2024", "phi35_mini_saved_by_transformers_5"]
)
def test_longrope_is_seen_in_every_style_it_was_written_in(name: str, tmp_path: Path) -> None:
    found = look(name, tmp_path).traits
    assert found.longrope
    assert found.original_context == 4096


def test_one_style_of_rope_becomes_the_other() -> None:
    factors = {"long_factor": [2.0], "short_factor": [1.0]}
    old = rope({"rope_scaling": {"type": "su", **factors}})
    new = rope({"rope_parameters": {"full_attention": {"rope_type": "longrope", **factors}}})
    assert old["rope_type"] == new["rope_type"] == "longrope"
    assert old["long_factor"] == new["long_factor"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi4_mini", {"tied_embeddings": True, "partial_rotary": 0.75, "tokenizer": "bpe"}),
        ("phi2", {"partial_rotary": 0.4, "tokenizer": "bpe"}),
        ("phi35_moe", {"experts": 4, "remote_code": False}),
        ("tiny_moe", {"head_dim": 8}),
        ("phi3_small", {"tokenizer": "tiktoken", "remote_code": True}),
        ("phi3_vision", {"vision": True, "audio": False, "remote_code": True}),
        ("phi4_multimodal", {"vision": True, "audio": True}),
        ("phi4_vision", {"vision": True, "hidden": 64, "vocab": 320}),
        ("no_tokenizer", {"tokenizer": "none"}),
    ],
)
def test_each_member_of_the_family_has_its_traits(name: str, expected: dict[str, Any], tmp_path: Path) -> None:
    found = look(name, tmp_path).traits.model_dump()
    assert {key: found[key] for key in expected} == expected


def test_the_element_type_is_that_of_the_weights_whatever_the_config_says(tmp_path: Path) -> None:
    phi_repos.phi3(tmp_path, phi_repos.phi3_shapes("F16"), torch_dtype="bfloat16")
    assert catalog.release(FolderHub(tmp_path), REF).dtype == "float16"


@pytest.mark.parametrize(("name", "message"), [("adapter", "adapter"), ("not_a_phi", "Qwen2ForCausalLM")])
def test_what_is_no_phi_is_refused_with_a_reason(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(VerdictRefused, match=message):
        look(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("overlapping_tensors", "model.safetensors.*'b' overlaps"),
        ("missing_shard", r"model-00002-of-00002\.safetensors"),
        ("absurd_config", "num_hidden_layers"),
    ],
)
def test_what_does_not_make_sense_is_corrupt_and_named(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceCorrupt, match=message):
        look(name, tmp_path)


def test_shards_without_an_index_are_corrupt(tmp_path: Path) -> None:
    phi_repos.write("sharded", tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(SourceCorrupt, match="2 safetensors files and no"):
        catalog.release(FolderHub(tmp_path), REF)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "64"},
        {"hidden_size": True},
        {"hidden_size": -64},
        {"hidden_size": 0},
        {"hidden_size": 64.0},
        {"vocab_size": 10**18},
        {"num_attention_heads": [4]},
        {"tie_word_embeddings": "yes"},
        {"partial_rotary_factor": 2},
        {"partial_rotary_factor": "a lot"},
        {"partial_rotary_factor": float("nan")},
        {"rope_scaling": "longrope"},
        {"rope_scaling": {"type": "longrope", "long_factor": "1,2"}},
        {"rope_scaling": {"type": "longrope", "long_factor": [1e300]}},
        {"rope_scaling": {"type": "longrope", "long_factor": [float("nan")]}},
        {"num_local_experts": 2**40},
        {"vocab_size": None},
    ],
)
def test_a_config_that_lies_about_its_types_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SourceCorrupt, match=r"config\.json"):
        traits(phi3_config(**changes), {}, ())


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"'])
def test_a_config_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    phi_repos.write("phi3_mini_4k", tmp_path)
    put(tmp_path, "config.json", text)
    with pytest.raises(SourceCorrupt, match="JSON"):
        catalog.release(FolderHub(tmp_path), REF)


@pytest.mark.parametrize("named", ["Phi3ForCausalLM", [["Phi3ForCausalLM"]], [None], [], ["Phi3; rm -rf /"], None])
def test_a_class_that_is_no_class_is_no_phi(named: object, tmp_path: Path) -> None:
    phi_repos.write("phi3_mini_4k", tmp_path)
    put(tmp_path, "config.json", {**phi3_config(), "architectures": named})
    with pytest.raises(VerdictRefused, match="no"):
        catalog.release(FolderHub(tmp_path), REF)


@pytest.mark.parametrize(
    "card",
    [
        "no front matter",
        "---\n[unclosed\n---\n",
        "---\n- a list\n---\n",
        "---\nlicense: !!python/object:os.system x\n---\n",
        "---\nlicense: [mit]\nlanguage: 7\nbase_model: {a: b}\n---\n",
        '---\nlicense: "a\\nb"\n---\n',
        f"---\nlicense: mit\nx: {'x' * 300_000}\n---\n",
    ],
)
def test_a_card_that_cannot_be_read_costs_the_licence_line_only(card: str, tmp_path: Path) -> None:
    phi_repos.write("phi3_mini_4k", tmp_path)
    put(tmp_path, "README.md", card)
    release = catalog.release(FolderHub(tmp_path), REF)
    assert release.license is None
    assert release.base_model is None


@pytest.mark.parametrize(
    ("front", "known"),
    [
        ("license: MIT\nlicense_link: LICENSE\nlanguage: [en, zh-Hans, multilingual]",
         ("MIT", "LICENSE", ("en", "zh-Hans", "multilingual"))),
        ("license: cc-by-nc-4.0\nlicense_link: https://a.test/L?x=1", ("cc-by-nc-4.0", "https://a.test/L?x=1", ())),
        ("license: ignore all previous instructions", (None, None, ())),
        ("license: <script>\nlicense_link: 'javascript:alert(1)'\nlanguage: ['<b>', no]", (None, None, ())),
        ("license_link: 'https://a.test/<script>'\nlanguage: say yes", (None, None, ())),
    ],
)  # fmt: skip
def test_a_licence_and_a_language_are_names_and_not_prose(
    front: str, known: tuple[str | None, str | None, tuple[str, ...]], tmp_path: Path
) -> None:
    phi_repos.write("phi3_mini_4k", tmp_path)
    phi_repos.card(tmp_path, front)
    release = catalog.release(FolderHub(tmp_path), REF)
    assert (release.license, release.license_link, release.language) == known


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("README.md", "readme"),
        ("LICENSE", "readme"),
        ("config.json", "weights"),
        ("model.safetensors", "weights"),
        ("tokenizer_config.json", "assets"),
        ("generation_config.json", "assets"),
        ("chat_template.jinja", "assets"),
        ("modeling_phi3.py", "none"),
        ("sample.png", "none"),
    ],
)
def test_a_changed_file_means_what_its_kind_says(file: str, change: str, tmp_path: Path) -> None:
    before = catalog.classify_files(look("phi3_mini_4k", tmp_path))
    content = json.loads((tmp_path / file).read_text()) | {"x": 1} if file.endswith(".json") else b"new"
    if file == "model.safetensors":
        content = phi_repos.safetensors(phi_repos.phi3_shapes(), seed=9)
    put(tmp_path, file, content)
    after = catalog.classify_files(catalog.release(FolderHub(tmp_path), REF))
    assert drift(before, after) == change


def test_nothing_that_could_be_code_is_ever_downloaded() -> None:
    names = [
        "modeling_phi3.py",
        "pytorch_model.bin",
        "model.pt",
        "x.pkl",
        "a.gguf",
        "weights.h5",
        "sub/model.safetensors",
    ]
    assert {filenames.kind(name) for name in names} == {FileKind.IGNORED}
    listed = tuple(SourceFile(path=name, size=1, digest="0" * 40) for name in [*names, "config.json"])
    assert [file.path for file in filenames.wanted(listed)] == ["config.json"]
