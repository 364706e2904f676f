"""The backends' data files: the real ones are sound, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import phi_repos
import pytest
from phi_repos import FolderHub

from bot import catalog, recipes
from bot.errors import PhimillError, UsageError
from bot.models import Precision, Release, RepoRef, Status, Traits

GOOD = """
[backend]
id = "x"
title = "X"
repo = "{ns}/{m}-X"
library_name = "x"

[[recipe]]
id = "x/fp16"
title = "t"
precision = "FP16"
preset = "recommended"
default = true
file = "{m}.x"
bits_per_weight = 16
suits = "s"
"""


@pytest.fixture
def fp16(tmp_path: Path) -> Release:
    hub = FolderHub(phi_repos.write("fp16_source", tmp_path / "fp16"))
    return catalog.release(hub, RepoRef(repo="microsoft/phi"))


def backend(folder: Path, text: str, architectures: str = "") -> recipes.Backend:
    (folder / "recipes.toml").write_text(text)
    (folder / "architectures.toml").write_text(architectures)
    return recipes.load(folder)


def test_gguf_offers_every_precision_and_names_its_repo() -> None:
    gguf = recipes.backends()["gguf"]
    assert {Precision.INT4, Precision.INT8, Precision.FP16, Precision.FP32} <= {r.precision for r in gguf.recipes}
    assert gguf.target("me", "phi-4") == "me/phi-4-GGUF"
    assert gguf.baseline in {r.id for r in gguf.recipes}
    assert gguf.snippets
    assert gguf.pretokenizers is not None


def test_every_class_of_the_family_has_an_answer_from_gguf() -> None:
    from bot.architectures import ARCHITECTURES

    assert set(recipes.backends()["gguf"].architectures) == set(ARCHITECTURES)


def test_every_condition_in_the_tables_is_a_trait() -> None:
    for made in recipes.backends().values():
        for stand in made.architectures.values():
            assert set(stand.when) <= set(Traits.model_fields)


def test_nothing_asked_means_the_defaults_and_the_verdict_refuses_what_does_not_suit(fp16: Release) -> None:
    chosen = recipes.select((), fp16, "gguf")
    assert chosen == recipes.defaults("gguf")
    assert "gguf/bf16" in {r.id for r in chosen}


def test_a_broad_word_leaves_out_what_is_for_another_element_type(fp16: Release) -> None:
    for word in ("gguf", "all"):
        chosen = {r.id for r in recipes.select((word,), fp16, "gguf")}
        assert "gguf/bf16" not in chosen
        assert "gguf/q2_k" in chosen


def test_an_id_is_taken_at_its_word(fp16: Release) -> None:
    assert [r.id for r in recipes.select(("gguf/bf16",), fp16, "gguf")] == ["gguf/bf16"]


def test_an_unknown_recipe_is_a_usage_error_that_lists_the_known(fp16: Release) -> None:
    with pytest.raises(UsageError, match="gguf/int4"):
        recipes.select(("gguf/int3",), fp16, "gguf")
    with pytest.raises(UsageError):
        recipes.by_id(["gguf"])


def test_by_id_keeps_the_order_asked_for() -> None:
    assert [r.id for r in recipes.by_id(["gguf/int8", "gguf/int4"])] == ["gguf/int8", "gguf/int4"]


def test_a_sound_backend_is_loaded(tmp_path: Path) -> None:
    made = backend(
        tmp_path,
        GOOD,
        '[Phi3ForCausalLM]\nstatus="supported"\nreason="r"\n[Phi3ForCausalLM.longrope]\nstatus="caveat"\nreason="l"',
    )
    assert made.architectures["Phi3ForCausalLM"].when["longrope"].status is Status.CAVEAT
    assert made.recipes[0].backend == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('precision = "FP16"', 'precision = "FP17"'), "recipes.0.precision"),
        (GOOD.replace("bits_per_weight = 16", ""), "recipes.0.bits_per_weight"),
        (GOOD + "typo = 1\n", "recipes.0.typo"),
        (GOOD.replace('id = "x/fp16"', 'id = "y/fp16"'), "does not start with its backend"),
        (GOOD + GOOD[GOOD.index("[[recipe]]") :], "'x/fp16' is there twice"),
        (GOOD.replace("library_name", "libary_name"), "library_name"),
        (GOOD.replace('precision = "FP16"', 'precision = "INT4"'), "baseline"),
        ("[[[", "cannot be read"),
    ],
)
def test_a_wrong_data_file_is_named_with_the_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PhimillError, match=message) as raised:
        backend(tmp_path, text)
    assert str(tmp_path) in raised.value.message


def test_a_backend_without_its_table_of_architectures_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipes.toml").write_text(GOOD)
    with pytest.raises(PhimillError, match=r"architectures\.toml"):
        recipes.load(tmp_path)
