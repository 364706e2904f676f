"""The backends' data files: the real ones are sound, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import phi_repos
import pytest
from phi_repos import FolderHub

from bot import catalog, recipes
from bot.errors import PhimillError, UsageError
from bot.models import Precision, Recipe, Release, RepoRef, Status, Traits
from bot.settings import Settings

GOOD = """
[backend]
id = "x"
title = "X"
repo = "{ns}/{m}-X"
baseline = "x/fp16"
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
# A second unquantized recipe with a repo and a variant of its own.
MORE = """
[[recipe]]
id = "x/fp32"
title = "t"
precision = "FP32"
preset = "recommended"
repo = "{ns}/{m}-x-web"
baseline = "x/fp32"
file = "{m}.x"
bits_per_weight = 32
suits = "s"
only_dtype = "float32"

[[recipe]]
id = "x/web-int4"
title = "t"
precision = "INT4"
preset = "recommended"
repo = "{ns}/{m}-x-web"
baseline = "x/fp32"
file = "model/{m}.x"
bits_per_weight = 4
suits = "s"
only_when = { longrope = true, experts = false }
runtime_error = { tied_embeddings = "It ties a knot.", vision = "It is blind." }
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
    assert {r.target("me", "phi-4") for r in gguf.recipes} == {"me/phi-4-GGUF"}
    assert all(r.baseline == "gguf/fp16" for r in gguf.recipes)
    assert gguf.snippets
    assert gguf.pretokenizers is not None


def test_every_class_of_the_family_has_an_answer_from_gguf() -> None:
    from bot.architectures import ARCHITECTURES

    assert set(recipes.backends()["gguf"].architectures) == set(ARCHITECTURES)


def test_every_condition_in_the_tables_is_a_trait() -> None:
    for made in recipes.backends().values():
        for stand in made.architectures.values():
            assert set(stand.when) <= set(Traits.model_fields)


def test_nothing_asked_means_the_defaults_that_suit_the_release(fp16: Release) -> None:
    chosen = recipes.select((), fp16, "gguf")
    assert chosen == tuple(r for r in recipes.defaults("gguf") if r.id != "gguf/bf16")


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
    assert (made.recipes[0].repo, made.recipes[0].baseline) == ("{ns}/{m}-X", "x/fp16")


def test_a_recipe_may_have_a_repo_and_a_baseline_of_its_own(tmp_path: Path) -> None:
    made = {r.id: r for r in backend(tmp_path, GOOD + MORE).recipes}
    assert made["x/web-int4"].target("me", "phi-4") == "me/phi-4-x-web"
    assert made["x/web-int4"].baseline == "x/fp32"
    assert made["x/fp16"].target("me", "phi-4") == "me/phi-4-X"


def test_recipes_are_gathered_by_the_repo_they_are_published_to(tmp_path: Path) -> None:
    fp16, fp32, web = backend(tmp_path, GOOD + MORE).recipes
    assert recipes.by_target([web, fp16, fp32], "me", "phi-4") == {
        "me/phi-4-x-web": (web, fp32),
        "me/phi-4-X": (fp16,),
    }
    assert recipes.by_target([], "me", "phi-4") == {}


def web(tmp_path: Path) -> Recipe:
    return backend(tmp_path, GOOD + MORE).recipes[-1]


@pytest.mark.parametrize(
    ("traits", "suits"),
    [
        (Traits(longrope=True), True),
        (Traits(longrope=True, experts=16), False),
        (Traits(), False),
        (Traits(experts=16), False),
    ],
)
def test_a_recipe_suits_a_release_with_all_the_traits_it_asks_for(
    tmp_path: Path, fp16: Release, traits: Traits, suits: bool
) -> None:
    assert web(tmp_path).suits_release(fp16.model_copy(update={"traits": traits})) is suits


def test_a_recipe_for_one_element_type_suits_no_release_of_another(tmp_path: Path, fp16: Release) -> None:
    only_fp32 = backend(tmp_path, GOOD + MORE).recipes[1]
    assert not only_fp32.suits_release(fp16)
    assert only_fp32.suits_release(fp16.model_copy(update={"dtype": "float32"}))


def test_a_recipe_s_known_error_is_that_of_a_trait_the_model_has(tmp_path: Path) -> None:
    recipe = web(tmp_path)
    assert recipe.known_error(Traits()) is None
    assert recipe.known_error(Traits(vision=True)) == "It is blind."
    assert recipe.known_error(Traits(tied_embeddings=True, vision=True)) == "It ties a knot."


def test_what_a_recipe_discloses_or_asks_for_does_not_change_its_bytes(tmp_path: Path) -> None:
    recipe = web(tmp_path)
    plain = {"only_when": {}, "runtime_error": {}, "cpu_seconds": 9.0, "baseline": "x/fp16"}
    assert recipe.model_copy(update=plain).digest == recipe.digest
    assert recipe.model_copy(update={"options": {"bits": 4}}).digest != recipe.digest


def test_every_backend_is_enabled_unless_the_settings_name_some() -> None:
    assert recipes.enabled(Settings()) == tuple(recipes.backends().values())
    assert recipes.enabled(Settings(backends=("gguf",))) == (recipes.backends()["gguf"],)


def test_the_settings_read_the_backends_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIMILL_BACKENDS", '["gguf"]')
    assert [b.id for b in recipes.enabled(Settings())] == ["gguf"]


def test_a_backend_that_does_not_exist_cannot_be_enabled() -> None:
    with pytest.raises(UsageError, match=r"PHIMILL_BACKENDS names 'ggml'.*gguf"):
        recipes.enabled(Settings(backends=("gguf", "ggml")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('precision = "FP16"', 'precision = "FP17"'), "recipes.0.precision"),
        (GOOD.replace("bits_per_weight = 16", ""), "recipes.0.bits_per_weight"),
        (GOOD + "typo = 1\n", "recipes.0.typo"),
        (GOOD.replace('id = "x/fp16"', 'id = "y/fp16"'), "does not start with its backend"),
        (GOOD + GOOD[GOOD.index("[[recipe]]") :], "'x/fp16' is there twice"),
        (GOOD.replace("library_name", "libary_name"), "library_name"),
        (GOOD.replace('baseline = "x/fp16"', ""), "recipes.0.baseline"),
        (GOOD.replace('baseline = "x/fp16"', 'baseline = "x/fp64"'), "'x/fp64' is not a recipe"),
        (GOOD + MORE.replace('baseline = "x/fp32"', 'baseline = "x/web-int4"', 1), "is not a recipe that is its own"),
        (GOOD + "only_when = { long_rope = true }\n", "'long_rope' is not a trait"),
        (GOOD + 'runtime_error = { long_rope = "why" }\n', "'long_rope' is not a trait"),
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
