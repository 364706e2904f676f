"""The model card: what it says, that it reads back, and that nothing hostile gets through it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bot.card import MAX_FRONT_MATTER, BackendInfo, choose, last_tag, parse, render, summary_from_card_data
from bot.fitting import by_device
from bot.measures import Fidelity, WeightErrors, WeightOutlier
from bot.publication import SCHEMA, Declined, Publication
from bot.receipt import read_receipt
from bot.recipes import backends

CARDS = Path(__file__).parent / "cards"
GOLDEN = read_receipt((CARDS / "phi-3.5-gguf.json").read_bytes())
HOSTILE = (
    "x|y`z`<script>alert(1)</script> [a](http://evil.example)\n\n# Big\n---\nphimill: {complete: true}\n"
    "**b** {{ 7*7 }}"
)


@dataclass(frozen=True)
class Snippet:
    title: str
    language: str
    code: str
    install: str = ""


@dataclass(frozen=True)
class Backend:
    id: str = "gguf"
    title: str = "llama.cpp (GGUF)"
    library_name: str = "gguf"
    tags: tuple[str, ...] = ("gguf", "llama.cpp")
    snippets: tuple[Snippet, ...] = field(
        default=(
            Snippet("llama.cpp", "bash", "llama-cli -hf {repo}:Q4_K_M -c 4096"),
            Snippet(
                "Python (llama-cpp-python)",
                "python",
                'Llama.from_pretrained("{repo}", filename="{file}", revision="{tag}")',
            ),
        )
    )


GGUF = Backend()


def changed(**changes: Any) -> Publication:
    return GOLDEN.model_copy(update=changes)


def first_changed(**changes: Any) -> Publication:
    """The golden publication with its first variant changed."""
    first, *rest = GOLDEN.variants
    return changed(variants=(first.model_copy(update=changes), *rest))


def front(card: str) -> dict[str, Any]:
    data = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert isinstance(data, dict)
    return data


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def tags_in(card: str) -> set[str]:
    """The HTML tags that a Markdown reader finds in the card's body."""
    tokens = MarkdownIt("commonmark").enable("table").parse(body(card))
    everything = [t for token in tokens for t in (token, *(token.children or ()))]
    html = " ".join(t.content for t in everything if t.type in ("html_block", "html_inline"))
    return set(re.findall(r"<[^>]*>?", html))


def assert_harmless(card: str) -> None:
    """Nothing of HOSTILE is more than text."""
    assert tags_in(card) <= {"<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>"}
    assert "<script" not in body(card)
    assert "](http://evil" not in body(card)
    assert "\n# Big" not in card
    assert "{{ 49 }}" not in card


def test_the_card_of_a_known_publication_is_the_golden_one() -> None:
    """UPDATE_GOLDEN=1 writes it anew; read the difference before committing it."""
    path, card = CARDS / "phi-3.5-gguf.md", render(GOLDEN, GGUF)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(card, encoding="utf-8")
    assert card == path.read_text(encoding="utf-8")


def test_the_same_publication_gives_the_same_card() -> None:
    assert render(GOLDEN, GGUF) == render(Publication.model_validate(GOLDEN.model_dump()), GGUF)


def test_the_front_matter_has_the_keys_we_mean_and_no_others() -> None:
    data = front(render(GOLDEN, GGUF))
    assert set(data) == {
        *("base_model", "base_model_relation", "library_name", "pipeline_tag", "license", "license_link"),
        *("language", "tags", "phimill"),
    }
    assert data["base_model"] == "microsoft/Phi-3.5-mini-instruct"
    assert data["base_model_relation"] == "quantized"
    assert data["pipeline_tag"] == "text-generation"
    assert data["tags"] == ["gguf", "llama.cpp", "phi", "phimill"]


def test_the_hubs_own_reader_sees_the_same_front_matter() -> None:
    said = first_changed(recipe=HOSTILE)
    card: Any = ModelCard(render(said, GGUF))
    assert card.data.base_model == GOLDEN.source
    assert summary_from_card_data(card.data.to_dict()) == said.summary()
    assert card.text.lstrip().startswith("# Phi-3.5-mini-instruct-GGUF")


def test_a_tag_that_the_backend_already_has_appears_once() -> None:
    assert front(render(GOLDEN, Backend(tags=("phi", "gguf", "phi"))))["tags"] == ["phi", "gguf", "phimill"]


@pytest.mark.parametrize(
    ("license_id", "link", "expected"),
    [
        ("mit", None, {"license": "mit"}),
        ("MIT", "https://example.org/L", {"license": "mit", "license_link": "https://example.org/L"}),
        ("msrl", None, {"license": "other", "license_name": "msrl"}),
        ("mit", "javascript:alert(1)", {"license": "mit"}),
        ("mit", "../../secret", {"license": "mit"}),
        (None, "https://example.org/L", {}),
    ],
)
def test_a_licence_is_one_the_hub_knows_or_is_called_other(
    license_id: str | None, link: str | None, expected: dict[str, str]
) -> None:
    data = front(render(changed(license=license_id, license_link=link), GGUF))
    assert {k: v for k, v in data.items() if k.startswith("license")} == expected


def test_a_licence_file_is_linked_where_it_lies() -> None:
    data = front(render(changed(license_link="LICENSE"), GGUF))
    assert data["license_link"] == f"https://huggingface.co/{GOLDEN.source}/blob/{GOLDEN.source_sha}/LICENSE"


def test_a_language_that_yaml_takes_for_false_stays_a_language() -> None:
    assert front(render(changed(language=("no", "en", "<b>")), GGUF))["language"] == ["no", "en"]


def test_our_block_reads_back_as_the_summary() -> None:
    card = render(GOLDEN, GGUF)
    assert parse(card) == GOLDEN.summary()
    assert summary_from_card_data(front(card)) == GOLDEN.summary()


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_a_card_reads_back_with_other_line_endings_and_a_byte_order_mark(ending: str) -> None:
    assert parse("\ufeff" + render(GOLDEN, GGUF).replace("\n", ending)) == GOLDEN.summary()


@pytest.mark.parametrize("card", ["", "# Title", "---\n---\n", "---\nlicense: mit\n---\nphimill:", "---\n- a\n---\n"])
def test_a_card_without_our_block_is_somebody_elses(card: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parse(card) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "block",
    ["phimill: 5", "phimill: []", "phimill: {complete: true}", "phimill: {a: [}",
     "phimill: !!python/name:os.system", "a: &x [1]\nphimill: *x", "phimill: " + "[" * 30_000,
     "phimill: {schema_version: 99}"],
    ids=["number", "list", "part", "not yaml", "python", "alias", "deep", "newer"],
)  # fmt: skip
def test_a_malformed_block_is_none_and_logged(block: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parse(f"---\n{block}\n---\n") is None
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_card_beyond_any_sense_is_not_read_to_its_end() -> None:
    assert parse(f"---\na: {'x' * MAX_FRONT_MATTER}\nphimill: 5\n---\n") is None


def test_a_newer_block_in_a_listing_is_not_taken_for_ours(caplog: pytest.LogCaptureFixture) -> None:
    block = {**GOLDEN.summary().model_dump(mode="json"), "schema_version": SCHEMA + 1}
    assert summary_from_card_data({"phimill": block}) is None
    assert "schema" in caplog.text


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=80), complete=st.booleans())
def test_whatever_the_source_says_the_block_reads_back(text: str, complete: bool) -> None:
    declined = Declined(recipe="a/b", recipe_digest="0" * 64, toolchain="1" * 64, by="gate", reason=text)
    said = changed(
        license=text, license_link=text, architecture=text, language=(text,), declined=(declined,),
        sandbox=text, tools={text: text}, complete=complete,
    )  # fmt: skip
    card = render(said, GGUF)
    assert parse(card) == said.summary()
    assert set(front(card)) <= {*front(render(GOLDEN, GGUF)), "license_name"}


@pytest.mark.parametrize("name", ["title", "suits", "recipe", "version"])
def test_a_hostile_variant_comes_out_as_text(name: str) -> None:
    said = first_changed(**{name: HOSTILE})
    card = render(said, GGUF)
    assert_harmless(card)
    assert parse(card) == said.summary()


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": HOSTILE},
        {"sandbox": HOSTILE},
        {"tools": {HOSTILE: HOSTILE}},
        {"repo": HOSTILE, "source": HOSTILE},
        {"versions": {HOSTILE: "0" * 40}},
        {"version": HOSTILE, "complete": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_hostile_field_comes_out_as_text(changes: dict[str, Any]) -> None:
    card = render(changed(**changes), GGUF)
    assert_harmless(card)
    assert parse(card) == changed(**changes).summary()


def test_a_hostile_file_name_cannot_add_a_column() -> None:
    file = GOLDEN.variants[0].files[0].model_copy(update={"path": "a|b\\|c`d.gguf"})
    card = render(first_changed(files=(file,)), GGUF)
    rows = MarkdownIt("commonmark").enable("table").parse(body(card))
    header = sum(t.type == "th_open" for t in rows)
    cells = sum(t.type == "td_open" for t in rows)
    assert header == 9 + 4 + 5 + 2
    assert cells == 9 * len(GOLDEN.variants) + 4 * len(by_device(GOLDEN, 512)) + 5 + 2 * len(GOLDEN.versions)


def test_a_sample_with_fences_stays_inside_its_own() -> None:
    sample = GOLDEN.variants[4].fidelity.samples[0].model_copy(update={"source": "```\n<img src=x>\n````\n# Big"})
    fidelity = GOLDEN.variants[4].fidelity.model_copy(update={"samples": (sample,)})
    variants = [v.model_copy(update={"fidelity": fidelity}) for v in GOLDEN.variants]
    card = render(changed(variants=tuple(variants)), GGUF)
    assert tags_in(card) == {"<details>", "</details>", "<summary>", "</summary>"}
    assert "`````text\n```\n<img src=x>\n````\n# Big\n`````" in card


def test_a_name_with_shell_characters_cannot_reach_a_command() -> None:
    card = render(changed(repo="a/$(rm -rf ~);b"), GGUF)
    assert "llama-cli -hf a/__rm_-rf____b:Q4_K_M" in card


def test_the_snippets_pin_the_tag_of_a_finished_version() -> None:
    assert 'filename="Phi-3.5-mini-instruct-Q4_K_M.gguf", revision="v1.1"' in render(GOLDEN, GGUF)


def test_other_braces_in_a_snippet_are_left_alone() -> None:
    backend = Backend(snippets=(Snippet("x", "python", 'f({"a": {1}}, "{m}")'),))
    assert 'f({"a": {1}}, "Phi-3.5-mini-instruct")' in render(GOLDEN, backend)


def test_a_version_being_built_says_so_and_which_tag_to_pin() -> None:
    card = render(changed(complete=False), GGUF)
    assert "Version v1.1 is still being built" in card
    assert "Pin the last finished version, `v1.0`" in card
    assert 'revision="main"' in card
    assert "(being built)" in card


def test_a_first_version_being_built_says_that_there_is_nothing_to_pin() -> None:
    card = render(changed(complete=False, versions={}), GGUF)
    assert "No version is finished yet" in card


def test_a_finished_version_says_nothing_about_building() -> None:
    assert "being built" not in render(GOLDEN, GGUF)


def test_the_last_tag_is_the_highest_number_and_not_the_last_word() -> None:
    many = {f"v1.{n}": "0" * 40 for n in (2, 9, 10)} | {"nightly": "0" * 40}
    assert last_tag(changed(versions=many, version="v1.10", complete=False)) == "v1.9"
    assert last_tag(changed(versions=many, version="v1.10", complete=True)) == "v1.10"
    assert last_tag(changed(versions={}, version="v1.0", complete=True)) == "v1.0"


def test_every_variant_is_in_the_table_with_its_figures() -> None:
    card = render(GOLDEN, GGUF)
    for v in GOLDEN.variants:
        assert f"| `{v.files[0].path}` |" in card
        assert v.files[0].sha256 in card
    assert "| 3.87 MB | 4.89 | 1.5e-3 | 9.5e-3 | 96.34 % | 1.0023 |" in card
    assert "(fidelity.png)" in card


def test_the_command_by_hand_is_there_for_every_variant() -> None:
    card = render(GOLDEN, GGUF)
    for v in GOLDEN.variants:
        assert "\n".join(v.by_hand).replace("{m}", "Phi-3.5-mini-instruct") in card


def test_the_command_by_hand_has_its_placeholders_filled() -> None:
    by_hand = ("convert --outtype {base} {m} SOURCE {other}",)
    assert "convert --outtype bf16 Phi-3.5-mini-instruct SOURCE {other}" in render(
        first_changed(by_hand=by_hand, facts={"base": "bf16"}), GGUF
    )
    assert "convert --outtype _rm_ Phi" in render(first_changed(by_hand=by_hand, facts={"base": "$rm;"}), GGUF)


def test_what_was_declined_is_there_with_its_reason() -> None:
    card = render(GOLDEN, GGUF)
    assert "`gguf/iq1_s`, refused by the gate after conversion: Mean KL 0.312" in card


def test_a_publication_of_refusals_alone_is_still_a_card() -> None:
    card = render(changed(variants=()), GGUF)
    assert "No variant of this version has been published." in card
    assert "## Run it" not in card
    assert "fidelity.png" not in card
    assert parse(card) == changed(variants=()).summary()


def test_the_source_is_linked_at_its_exact_commit() -> None:
    assert f"https://huggingface.co/{GOLDEN.source}/commit/{GOLDEN.source_sha}" in render(GOLDEN, GGUF)


def test_the_links_lead_to_the_hub_that_was_asked_for() -> None:
    card = render(GOLDEN, GGUF, hub="http://127.0.0.1:7870")
    assert f"](http://127.0.0.1:7870/{GOLDEN.source})" in card


def test_longrope_in_llama_cpp_says_how_to_run_short_contexts_and_warns_of_transformers() -> None:
    card = render(GOLDEN, GGUF)
    assert "start it with `-c 512`" in card
    assert "gguf_file" in card


def test_longrope_elsewhere_gets_the_general_note() -> None:
    card = render(GOLDEN, Backend(id="onnx"))
    assert "LongRoPE" in card
    assert "n_ctx" not in card


def test_a_model_without_longrope_gets_no_note() -> None:
    assert "LongRoPE" not in render(changed(longrope=False), GGUF)


def test_a_runtime_error_gets_a_column_of_its_own() -> None:
    fidelity = GOLDEN.variants[4].fidelity.model_copy(update={"kl_mean": 0.13, "baseline_kl_mean": 7.9e-3})
    variants = [v.model_copy(update={"fidelity": fidelity}) for v in GOLDEN.variants]
    card = render(changed(variants=tuple(variants)), GGUF)
    assert "Quantization KL" in card
    assert "| 1.3e-1 | 7.9e-3 |" in card
    assert "Quantization KL" not in render(GOLDEN, GGUF)


def test_running_on_is_reported_where_the_gate_tolerates_it() -> None:
    assert "It does not stop on 1 of 1 prompts where the source stops." in render(GOLDEN, GGUF)


def test_weights_that_stand_out_are_listed_and_only_then_there_is_a_list() -> None:
    card = render(GOLDEN, GGUF)
    assert "| `model.layers.3.mlp.down_proj.weight` | Q4_K | 0.45 | 0.076 |" in card
    assert "Of 24 matrices compared with their siblings in other layers, none stands out." in card
    clean = tuple(v for v in GOLDEN.variants if v.recipe != "gguf/int4")
    assert "Weights that stand out" not in render(changed(variants=clean), GGUF)


def test_more_weights_than_a_receipt_holds_are_counted_on_the_card() -> None:
    assert "and 8 more" in render(first_changed(fidelity=standing_out("model.layers.0.w", stand_out=9)), GGUF)


def test_a_hostile_tensor_comes_out_as_text() -> None:
    said = first_changed(fidelity=standing_out(HOSTILE))
    card = render(said, GGUF)
    assert_harmless(card)
    assert parse(card) == said.summary()


def standing_out(tensor: str, stand_out: int = 1) -> Fidelity:
    """The golden publication's first figures, with a matrix that stands out."""
    outlier = WeightOutlier(tensor=tensor, kind=tensor[:100], error=0.5, usual=0.1)
    weights = WeightErrors(
        compared=24, groups=4, without_siblings=2, not_found=0, stand_out=stand_out, outliers=(outlier,)
    )
    return GOLDEN.variants[0].fidelity.model_copy(update={"weights": weights})


def test_the_card_says_what_was_not_verified() -> None:
    card = render(GOLDEN, GGUF)
    assert "The source's weights were not audited" in card
    assert "sandbox in force: landlock7+seccomp" in card
    assert "beyond the original context of 512 tokens" in card


def test_a_signed_card_names_the_key_and_the_commands_that_check_it() -> None:
    card = render(changed(signer="a1" * 32), GGUF)
    said = card.partition("## Signature")[2]
    assert f"`{'a1' * 32}`" in said
    assert f"hf download {GOLDEN.repo} --revision {GOLDEN.version} --local-dir model\n" in said
    assert "\nmodel_signing verify key model --signature model/model.sig --public_key signing.pub\n" in said
    assert f"phimill verify {GOLDEN.repo}@{GOLDEN.version} --key signing.pub\n" in said
    building = render(changed(signer="a1" * 32, complete=False), GGUF)
    assert "--revision main " in building
    assert "## Signature" not in render(GOLDEN, GGUF)


def test_a_long_sample_is_cut() -> None:
    sample = GOLDEN.variants[4].fidelity.samples[0].model_copy(update={"source": "long " * 1000})
    fidelity = GOLDEN.variants[4].fidelity.model_copy(update={"samples": (sample,)})
    variants = [v.model_copy(update={"fidelity": fidelity}) for v in GOLDEN.variants]
    assert "long " * 100 not in render(changed(variants=tuple(variants)), GGUF)


def test_the_first_choice_is_the_recommended_int4_variant() -> None:
    chosen = choose(GOLDEN)
    assert chosen is not None
    assert chosen.recipe == "gguf/int4"


def chosen_from(*recipes: str, **changes: Any) -> str | None:
    variants = [v.model_copy(update=changes) for v in GOLDEN.variants if v.recipe in recipes]
    chosen = choose(changed(variants=tuple(variants)))
    return chosen.recipe if chosen else None


def test_without_int4_the_next_smallest_recommended_precision_is_chosen() -> None:
    assert chosen_from("gguf/int8", "gguf/fp16", preset="recommended") == "gguf/int8"
    assert chosen_from("gguf/q2_k", "gguf/int8") == "gguf/int8"


def test_without_any_recommendation_the_nearest_int4_is_chosen() -> None:
    assert chosen_from(*(v.recipe for v in GOLDEN.variants), preset="ladder") == "gguf/int4"
    assert chosen_from() is None


def test_a_snippet_names_the_variant_that_is_there() -> None:
    backend = Backend(snippets=(Snippet("x", "sh", "run {repo}:{quant} -c {context} {file}"),))
    only = changed(variants=(GOLDEN.variants[1],), original_context=131072)
    assert "GGUF:Q8_0 -c 4096 Phi-3.5-mini-instruct-Q8_0.gguf" in render(only, backend)
    assert ":Q4_K_M -c 512 " in render(GOLDEN, backend)


@pytest.mark.parametrize("backend", backends().values(), ids=lambda backend: backend.id)
def test_the_card_of_every_real_backend_leaves_no_placeholder_behind(backend: BackendInfo) -> None:
    card = render(GOLDEN, backend)
    assert parse(card) == GOLDEN.summary()
    run = card.split("## Run it")[1].split("## Variants")[0]
    assert GOLDEN.repo in run
    assert not re.search(r"\{(ns|m|repo|file|quant|tag|context|base)\}", card)


def test_a_snippet_names_a_split_file_without_its_number() -> None:
    backend = Backend(snippets=(Snippet("x", "sh", "run {quant}"),))
    file = GOLDEN.variants[4].files[0].model_copy(update={"path": "Phi-3.5-mini-instruct-Q4_K_M-00001-of-00003.gguf"})
    split = GOLDEN.variants[4].model_copy(update={"files": (file,)})
    assert "run Q4_K_M\n" in render(changed(variants=(split,)), backend)
