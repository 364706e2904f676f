"""Which variant for which device: the arithmetic, the order of preference, and what is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import phi_repos
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phi_repos import FolderHub

from bot import reader, recipes
from bot.advisor import Advice, advise
from bot.card import render
from bot.catalog import classify_files
from bot.costs import variant_bytes
from bot.devices import Device, device, devices, parse_memory
from bot.errors import PhimillError, UsageError
from bot.fitting import Footprint, Option, best, by_device, footprint
from bot.mill import Mill
from bot.models import Recipe, Release, RepoRef, Runtime, SourceFile, Status, Traits, Verdict
from bot.publication import RecipeMark, Summary, stands
from bot.receipt import read_receipt
from bot.settings import Settings

SHA = "0123456789abcdef0123456789abcdef01234567"
MIB = 1024**2
GOLDEN = read_receipt((Path(__file__).parent / "cards" / "phi-3.5-gguf.json").read_bytes())
PHI_4_MINI = Traits(
    longrope=True, original_context=4096, context=131072, tied_embeddings=True, partial_rotary=0.75, tokenizer="bpe",
    vocab=200064, hidden=3072, layers=32, heads=24, kv_heads=8, head_dim=128,
)  # fmt: skip
PHI_35_MINI = PHI_4_MINI.model_copy(
    update={"vocab": 32064, "heads": 32, "kv_heads": 32, "head_dim": 96, "tied_embeddings": False}
)
RELEASE = Release(
    repo="microsoft/Phi-4-mini-instruct",
    sha=SHA,
    architecture="Phi3ForCausalLM",
    model_type="phi3",
    dtype="bfloat16",
    parameters=3_836_021_760,
    traits=PHI_4_MINI,
    files=(SourceFile(path="model.safetensors", size=7_672_043_520, digest="a" * 64),),
)
REPO = "you/Phi-4-mini-instruct-X"
BACKEND = """
[backend]
id = "x"
title = "X"
repo = "{ns}/{m}-X"
baseline = "x/fp16"
library_name = "x"

[[backend.pull]]
title = "Run it"
language = "sh"
code = "run {repo} {file} {quant} at {tag} with {context}"

[runtime]
memory_bytes = 200_000_000
cache_bytes = 2
"""
RECIPES: dict[str, dict[str, Any]] = {
    "fp32": {"bits_per_weight": 32, "precision": "FP32", "devices": ["laptop"]},
    "fp16": {"bits_per_weight": 16, "precision": "FP16", "devices": ["laptop"]},
    "int8": {"bits_per_weight": 8.5, "precision": "INT8", "devices": ["phone", "laptop"]},
    "int4": {"bits_per_weight": 5, "precision": "INT4", "devices": ["phone", "laptop"]},
    "int4-cookbook": {"bits_per_weight": 5, "precision": "INT4", "devices": ["phone"], "preset": "cookbook"},
    "short": {
        "bits_per_weight": 4.5,
        "precision": "INT4",
        "devices": ["phone"],
        "within_original_context": True,
        "only_when": {"longrope": True},
    },
}


def spelled(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {spelled(item)}" for key, item in value.items()) + " }"
    return repr(value)


def load(folder: Path, table: dict[str, dict[str, Any]]) -> recipes.Backend:
    """A backend with these recipes, read as a real one is."""
    text = BACKEND
    for name, fields in table.items():
        common = {"id": f"x/{name}", "title": name, "preset": "recommended", "suits": "s", "file": f"{{m}}-{name}.x"}
        lines = [f"{key} = {spelled(value)}" for key, value in {**common, **fields}.items()]
        text += "\n[[recipe]]\n" + "\n".join(lines) + "\n"
    (folder / "recipes.toml").write_text(text)
    (folder / "architectures.toml").write_text("")
    return recipes.load(folder)


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recipes.Backend:
    """The one backend there is."""
    made = load(tmp_path, RECIPES)
    monkeypatch.setattr(recipes, "backends", lambda: {made.id: made})
    return made


def held(version: str = "v1.0", complete: bool = True, **figures: tuple[int, float]) -> dict[str, Summary]:
    """A repo that says it holds these variants of RELEASE: bytes and mean KL."""
    digests = classify_files(RELEASE)
    marks = {
        f"x/{name.replace('_', '-')}": RecipeMark(
            digest="0" * 64, toolchain="0" * 64, made_from=digests.made_from, version="v1.0", bytes=size, kl_mean=kl
        )
        for name, (size, kl) in figures.items()
    }
    return {
        REPO: Summary(
            backend="x", source=RELEASE.repo, source_sha=SHA, digests=digests, version=version, complete=complete,
            recipes=marks,
        )
    }  # fmt: skip


def ask(
    on: str = "phone",
    memory: int | None = None,
    context: int | None = None,
    there: dict[str, Summary] | None = None,
    release: Release = RELEASE,
    refused: Sequence[str] = (),
    reason: str = "",
) -> Advice:
    verdicts = [
        Verdict(
            recipe=recipe.id,
            status=Status.UNSUPPORTED if recipe.id in refused else Status.CAVEAT,
            reasons=(reason,) if reason else (),
        )
        for recipe in recipes.all_recipes()
    ]
    return advise(release, verdicts, there or {}, device(on), memory, context)


# --- devices ---------------------------------------------------------------------------------------------------------


def test_the_devices_are_the_ones_that_recipes_name() -> None:
    assert list(devices()) == [
        *("phone", "iot", "laptop", "copilot-pc", "intel-ai-pc", "mac", "nvidia", "windows-gpu", "browser"),
        *("workstation", "server"),
    ]
    assert {name for recipe in recipes.all_recipes() for name in recipe.devices} <= set(devices())


def test_every_device_leaves_a_model_some_of_its_memory() -> None:
    for one in devices().values():
        assert 0 < one.usable(one.memory) <= one.memory
        assert one.usable(one.holding(10**9)) == pytest.approx(10**9, abs=2)


def test_an_unknown_device_is_a_usage_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match="phone, iot, laptop"):
        device("toaster")


def test_a_recipe_for_an_unknown_device_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(PhimillError, match="'x/fp16': 'toaster' is not a device") as raised:
        load(tmp_path, {"fp16": {**RECIPES["fp16"], "devices": ["phone", "toaster"]}})
    assert str(tmp_path / "recipes.toml") in raised.value.message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("8 GiB", 8 * 1024**3),
        ("512MB", 512 * 10**6),
        (" 1.5 tb ", 15 * 10**11),
        ("6g", 6 * 10**9),
        ("900 mib", 900 * MIB),
    ],
)
def test_memory_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "8", "GB", "-8GB", "8 GB RAM", "8kB", "eight GB", "0GB", "1e9GB", "٨GB", "nan GB"]
)
def test_what_is_no_amount_of_memory_is_explained(text: str) -> None:
    with pytest.raises(UsageError, match="8GB, 8 GiB or 512MB"):
        parse_memory(text)


# --- what it needs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traits", "context", "compute", "cache"),
    [
        (PHI_4_MINI, 2048, 402.75, 16),
        (PHI_4_MINI, 4096, 402.75, 32),
        (PHI_4_MINI, 8192, 422.01, 64),
        (PHI_4_MINI, 16384, 822.01, 128),
        (PHI_4_MINI, 32768, 1622.01, 256),
        (PHI_35_MINI, 2048, 162.01, 48),
        (PHI_35_MINI, 4096, 294.01, 96),
        (PHI_35_MINI, 32768, 2142.01, 768),
    ],
)
def test_llama_cpp_s_own_figures_are_met(traits: Traits, context: int, compute: float, cache: int) -> None:
    """MiB of `compute buffer size` and `KV buffer size`, as llama.cpp logged them for these widths with two layers."""
    runtime = next(r for r in recipes.all_recipes() if r.id == "gguf/int4").runtime
    two_layers = traits.model_copy(update={"layers": 2})
    needs = footprint(two_layers, 0, runtime, context)
    assert (needs.runtime - runtime.memory_bytes) / MIB == pytest.approx(compute, rel=0.05)
    assert needs.cache == cache * MIB


def test_grouped_heads_and_a_large_vocabulary_count() -> None:
    small, large = (footprint(traits, 0, Runtime(scores=False), 4096) for traits in (PHI_35_MINI, PHI_4_MINI))
    assert large.cache * 3 == small.cache
    assert large.runtime - small.runtime == 4 * 512 * (200064 - 32064)


def test_a_runtime_may_hold_less_or_more() -> None:
    usual = footprint(PHI_4_MINI, 10**9, Runtime(), 4096)
    assert usual.total == 10**9 + usual.cache + usual.runtime
    assert footprint(PHI_4_MINI, 0, Runtime(cache_bytes=1), 4096).cache * 2 == usual.cache
    assert footprint(PHI_4_MINI, 0, Runtime(all_logits=False, scores=False), 4096).runtime < usual.runtime / 2
    whole_prompt = footprint(PHI_4_MINI, 0, Runtime(batch=0), 4096).runtime
    assert whole_prompt > 4 * 200064 * 4096


def test_an_embedding_that_is_stored_apart_is_counted_apart(backend: recipes.Backend) -> None:
    int4 = next(r for r in backend.recipes if r.id == "x/int4")
    untied = RELEASE.model_copy(update={"traits": PHI_4_MINI.model_copy(update={"tied_embeddings": False})})
    table = 200064 * 3072
    apart = int4.model_copy(update={"embedding_bits": 32})
    assert variant_bytes(untied, apart) - variant_bytes(untied, int4) == table * 4 - table * 5 // 8


def test_a_tied_embedding_is_counted_once_and_quantized(backend: recipes.Backend) -> None:
    int4 = next(r for r in backend.recipes if r.id == "x/int4")
    in_floats, in_bytes = (int4.model_copy(update={"embedding_bits": bits}) for bits in (32, 8))
    assert variant_bytes(RELEASE, in_floats) == variant_bytes(RELEASE, int4)
    assert variant_bytes(RELEASE, in_bytes) - variant_bytes(RELEASE, int4) == 200064 * 3072 * 3 // 8


# --- which one -------------------------------------------------------------------------------------------------------


def option(name: str, weights: int = 100, kl: float | None = None, **fields: Any) -> Option:
    needs = Footprint(weights=weights, cache=0, runtime=0, total=weights)
    known: dict[str, Any] = {"preset": "recommended", "devices": (), "bits": 8, **fields}
    return Option(recipe=name, title=name, kl_mean=kl, needs=needs, **known)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ([option("near", 200, 1e-3), option("far", 100, 2e-3)], "near"),
        ([option("nearer", 200, 1e-6), option("smaller", 100, 9e-5)], "smaller"),
        ([option("nearer", 200, 0.100), option("smaller", 100, 0.109)], "smaller"),
        ([option("nearer", 200, 0.100), option("smaller", 100, 0.111)], "nearer"),
        ([option("a", 100, 1e-3, preset="cookbook"), option("b", 105, 1e-3)], "b"),
        ([option("a", 100, 1e-3, preset="ladder"), option("b", 105, 1e-3, preset="cookbook")], "b"),
        ([option("a", 100, 1e-3, preset="ladder"), option("b", 150, 1e-3)], "a"),
        ([option("made", 100, 0.5), option("not made", 100, bits=16)], "made"),
        ([option("more bits", 200, bits=8.5), option("fewer", 100, bits=5)], "more bits"),
        ([option("32 bits of 16", 200, bits=16), option("16 bits", 100, bits=16)], "16 bits"),
        ([option("differs", 200, bits=16, differs=True), option("same", 100, bits=5)], "same"),
        ([option("differs", 200, bits=16, differs=True)], "differs"),
        ([option("b", 100, 1e-3), option("a", 100, 1e-3)], "a"),
    ],
)
def test_the_order_of_preference(options: list[Option], taken: str) -> None:
    for given_in in (options, options[::-1]):
        chosen = best(given_in)
        assert chosen is not None
        assert chosen.recipe == taken


def test_of_nothing_nothing_is_taken() -> None:
    assert best([]) is None


# --- advice ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("backend")
def test_the_nearest_published_variant_that_fits_is_advised() -> None:
    advice = ask(there=held(int4=(2_400_000_000, 0.03), int4_cookbook=(2_390_000_000, 0.05), int8=(4 * 10**9, 1e-3)))
    assert advice.pick is not None
    assert advice.pick.recipe == "x/int4"
    assert advice.pick.published
    assert (advice.pick.repo, advice.pick.tag, advice.pick.kl_mean) == (REPO, "v1.0", 0.03)
    assert advice.pick.needs.weights == 2_400_000_000
    assert advice.pick.left == advice.usable - advice.pick.needs.total >= 0
    assert advice.runner_up is not None
    assert advice.runner_up.recipe == "x/int4-cookbook"
    assert advice.why == "Of 2 published variants that fit, this one is the nearest to the source (mean KL 3.0e-2)."
    assert advice.smallest is None


@pytest.mark.usefixtures("backend")
def test_more_memory_gives_a_nearer_variant() -> None:
    there = held(int4=(2_400_000_000, 0.03), int8=(4_000_000_000, 1e-3))
    taken = [ask(memory=size * 10**9, there=there).pick for size in (8, 16)]
    assert [pick.recipe for pick in taken if pick] == ["x/int4", "x/int8"]


@pytest.mark.usefixtures("backend")
def test_memory_is_not_wasted_on_a_difference_that_is_noise() -> None:
    there = held(fp32=(400_000_000, 1e-8), fp16=(200_000_000, 2e-7), int8=(100_000_000, 5e-5))
    advice = ask("laptop", there=there)
    assert advice.pick is not None
    assert advice.pick.recipe == "x/int8"
    assert "none is nearer to the source than this one by more than noise" in advice.why
    assert advice.runner_up is not None
    assert advice.runner_up.recipe == "x/fp16"


@pytest.mark.usefixtures("backend")
def test_a_published_variant_is_pulled_with_the_backend_s_own_snippet() -> None:
    advice = ask(there=held(int4=(2_400_000_000, 0.03)), context=2048, reason="Mind the RoPE.")
    assert advice.pick is not None
    [snippet] = advice.pick.snippets
    assert snippet.code == f"run {REPO} Phi-4-mini-instruct-int4.x int4 at v1.0 with 2048"
    assert advice.pick.caveats == ("Mind the RoPE.",)
    assert advice.why == "It is the only published variant that fits (mean KL 3.0e-2)."


@pytest.mark.usefixtures("backend")
def test_a_variant_of_an_unfinished_version_is_pinned_to_the_tag_before() -> None:
    figures = {"int4": (2_400_000_000, 0.03)}
    for version, complete, tag in (("v1.1", True, "v1.1"), ("v1.1", False, "v1.0"), ("v1.0", False, "main")):
        advice = ask(there=held(version, complete, **figures))
        assert advice.pick is not None
        assert advice.pick.tag == tag


@pytest.mark.usefixtures("backend")
def test_where_nothing_is_published_a_recipe_is_advised_and_called_an_estimate() -> None:
    advice = ask()
    assert advice.pick is not None
    assert advice.pick.recipe == "x/int4"
    assert not advice.pick.published
    assert advice.pick.kl_mean is advice.pick.repo is None
    assert advice.pick.needs.weights == RELEASE.parameters * 5 // 8
    assert [s.code for s in advice.pick.snippets] == ["phimill convert microsoft/Phi-4-mini-instruct --recipe x/int4"]
    assert advice.why.startswith("Nothing is published for this device yet; of 3 recipes that would fit,")
    assert "Sizes of what is not published are estimates." in advice.notes


@pytest.mark.usefixtures("backend")
def test_what_the_verdict_refuses_is_not_advised_unless_it_stands() -> None:
    refused = ("x/int4", "x/int4-cookbook", "x/int8")
    advice = ask(refused=refused, reason="Never.")
    assert advice.pick is not None
    assert advice.pick.recipe == "x/short"
    standing = ask(refused=refused, reason="Never.", there=held(int4=(2_400_000_000, 0.03)))
    assert standing.pick is not None
    assert standing.pick.recipe == "x/int4"
    assert standing.pick.caveats == ()


@pytest.mark.usefixtures("backend")
def test_a_recipe_that_fits_goes_before_a_published_variant_that_does_not() -> None:
    advice = ask(there=held(int8=(4_000_000_000, 1e-3)))
    assert advice.pick is not None
    assert not advice.pick.published
    assert advice.why.startswith("Nothing that is published for this device fits; of 3 recipes")


@pytest.mark.usefixtures("backend")
def test_what_was_made_from_other_source_bytes_does_not_stand() -> None:
    changed = RELEASE.model_copy(
        update={"files": (SourceFile(path="model.safetensors", size=7_672_043_520, digest="b" * 64),)}
    )
    advice = ask(there=held(int4=(2_400_000_000, 0.03)), release=changed)
    assert advice.pick is not None
    assert not advice.pick.published


@pytest.mark.parametrize("figures", [(0, 0.1), (-1, 0.1), (100, float("nan")), (100, float("inf"))])
def test_figures_that_make_no_sense_are_no_evidence(figures: tuple[int, float]) -> None:
    assert not stands(held(int4=figures), classify_files(RELEASE).made_from)
    assert stands(held(int4=(100, 0.1)), classify_files(RELEASE).made_from)
    assert not stands(held(int4=(100, 0.1)), "something else")


@pytest.mark.usefixtures("backend")
def test_where_nothing_fits_it_says_what_would_and_how_much_that_takes() -> None:
    there = held(int4=(2_400_000_000, 0.03), int8=(4_000_000_000, 1e-3))
    advice = ask(memory=6 * 10**9, there=there, refused=("x/short", "x/int4-cookbook"))
    assert advice.pick is advice.runner_up is None
    assert advice.smallest is not None
    assert advice.smallest.recipe == "x/int4"
    assert advice.smallest.left < 0
    assert "Nothing fits: a model may have 3.00 GB of the 6.00 GB" in advice.why
    enough = device("phone").holding(advice.smallest.needs.total) + 2
    assert ask(memory=enough, there=there).pick is not None


@pytest.mark.usefixtures("backend")
def test_a_context_that_would_fit_is_named_where_the_asked_one_does_not() -> None:
    advice = ask(context=32768, there=held(int4=(2_400_000_000, 0.03)), refused=("x/short", "x/int4-cookbook"))
    assert advice.pick is None
    assert advice.notes[-1] == "With a context of 4096 tokens, int4 would fit."
    assert ask(context=4096, there=held(int4=(2_400_000_000, 0.03))).pick is not None


@pytest.mark.usefixtures("backend")
def test_a_device_that_nothing_suits_gets_neither_a_pick_nor_a_smallest() -> None:
    advice = ask("browser")
    assert advice.pick is advice.runner_up is advice.smallest is None
    assert "suits this device" in advice.why


@pytest.mark.usefixtures("backend")
def test_beyond_the_original_context_what_is_made_for_it_is_left_out_and_said() -> None:
    refused = ("x/int4", "x/int4-cookbook")
    within, beyond = ask(refused=refused, context=4096), ask(refused=refused, context=4097, memory=16 * 10**9)
    assert within.pick is not None
    assert within.pick.recipe == "x/short"
    assert "It is made for contexts of up to 4096 tokens." in within.pick.caveats
    assert beyond.pick is not None
    assert beyond.pick.recipe == "x/int8"
    assert any("uses other RoPE factors" in note and "left out" in note for note in beyond.notes)


@pytest.mark.usefixtures("backend")
def test_no_more_context_is_counted_than_the_model_reads() -> None:
    phi_2 = RELEASE.model_copy(update={"traits": Traits(context=2048, vocab=51200, hidden=2560, layers=32)})
    assert ask(release=phi_2).context == 2048
    advice = ask(release=phi_2, context=8192)
    assert advice.context == 2048
    assert "The model reads at most 2048 tokens; this is for so many, not for 8192." in advice.notes
    assert not any("RoPE" in note for note in advice.notes)


@settings(max_examples=60, deadline=None)
@given(
    memory=st.integers(1, 10**11),
    context=st.integers(1, 200_000),
    on=st.sampled_from(["phone", "laptop", "mac", "nvidia", "server"]),
)
def test_what_is_advised_fits_and_suits_whatever_is_asked(memory: int, context: int, on: str) -> None:
    """On the real recipes."""
    advice = ask(on, memory, context)
    known = {recipe.id: recipe for recipe in recipes.all_recipes()}
    for choice in (advice.pick, advice.runner_up):
        if choice is not None:
            assert choice.needs.total + choice.left == advice.usable <= memory
            assert choice.left >= 0
            assert on in known[choice.recipe].devices
    assert advice.pick is not None or advice.runner_up is None
    assert advice.pick is None or advice.smallest is None
    assert advice.pick is None or advice.pick != advice.runner_up
    assert advice.why.endswith(".")
    assert Advice.model_validate_json(advice.model_dump_json()) == advice


@pytest.mark.parametrize("recipe", recipes.all_recipes(), ids=lambda recipe: recipe.id)
def test_the_snippets_of_every_real_recipe_leave_no_placeholder_behind(recipe: Recipe) -> None:
    if not recipe.devices or not recipe.suits_release(RELEASE):
        pytest.skip("nobody is advised to take it here")
    digests = classify_files(RELEASE)
    mark = RecipeMark(
        digest="0" * 64, toolchain="0" * 64, made_from=digests.made_from, version="v1.0", bytes=10**9, kl_mean=0.1
    )
    repo = recipe.target("you", RELEASE.name)
    there = {
        repo: Summary(
            backend=recipe.backend, source=RELEASE.repo, source_sha=SHA, digests=digests, version="v1.0",
            complete=True, recipes={recipe.id: mark},
        )
    }  # fmt: skip
    advice = ask(recipe.devices[0], 10**12, 4096, there)
    assert advice.pick is not None
    assert advice.pick.recipe == recipe.id
    for snippet in advice.pick.snippets:
        assert not [name for name in ("ns", "m", "repo", "file", "quant", "tag") if f"{{{name}}}" in snippet.code]


# --- the mill and the card -------------------------------------------------------------------------------------------


def test_the_mill_reads_the_release_and_what_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FolderHub(phi_repos.write("phi3_mini_4k", tmp_path / "source"))
    mill = Mill(Settings(home=tmp_path / "home", namespace="you"))
    mill.__dict__["hub"] = hub
    release = reader.catalog.release(hub, RepoRef(repo="microsoft/phi"))
    digests = classify_files(release)
    mark = RecipeMark(
        digest="0" * 64, toolchain="0" * 64, made_from=digests.made_from, version="v1.0", bytes=10**6, kl_mean=0.1
    )
    summary = Summary(
        backend="gguf", source="microsoft/phi", source_sha=release.sha, digests=digests, version="v1.0",
        complete=True, recipes={"gguf/int4": mark},
    )  # fmt: skip
    other = {("microsoft/other", "gguf"): {"you/other-GGUF": summary}}
    there = {("microsoft/phi", "gguf"): {"you/phi-GGUF": summary}}
    monkeypatch.setattr(reader, "standing", lambda hub, namespace: {**other, **there})
    advice = mill.reader().advise("microsoft/phi", "phone", 8 * 10**9, 1024)
    assert advice.pick is not None
    assert (advice.pick.recipe, advice.pick.repo, advice.context) == ("gguf/int4", "you/phi-GGUF", 1024)
    assert mill.reader().check("microsoft/phi").published == {"gguf/int4": "v1.0"}


def test_the_mill_names_an_unknown_device_before_it_reads_anything(tmp_path: Path) -> None:
    mill = Mill(Settings(home=tmp_path, namespace="you"))
    with pytest.raises(UsageError, match="toaster"):
        mill.reader().advise("microsoft/phi", "toaster")


def test_a_card_has_a_row_for_every_device_that_a_variant_suits() -> None:
    rows = by_device(GOLDEN, 512)
    suited = {name for variant in GOLDEN.variants for name in variant.devices}
    assert [row.device.id for row in rows] == [name for name in devices() if name in suited]
    assert {row.device.id: row.variant for row in rows}["phone"] == "INT4, calibrated (Q4_K_M)"
    assert all(row.fits for row in rows)


def test_a_card_says_where_a_usual_device_is_too_small() -> None:
    [phone] = [v for v in GOLDEN.variants if v.recipe == "gguf/int4"]
    file = phone.files[0].model_copy(update={"size": 9 * 10**9})
    large = GOLDEN.model_copy(update={"variants": (phone.model_copy(update={"files": (file,)}),)})
    rows = {row.device.id: row for row in by_device(large, 512)}
    assert not rows["phone"].fits
    assert rows["laptop"].fits
    card = render(large, recipes.backends()["gguf"])
    assert "| Phone | 8 GB | INT4, calibrated (Q4_K_M), on a larger one | 9.1" in card


def test_a_card_without_traits_or_known_devices_has_no_such_table() -> None:
    strange = [v.model_copy(update={"devices": ("toaster",)}) for v in GOLDEN.variants]
    for publication in (
        GOLDEN.model_copy(update={"traits": None}),
        GOLDEN.model_copy(update={"variants": tuple(strange)}),
    ):
        assert not by_device(publication, 512)
        assert "Which one for my device" not in render(publication, recipes.backends()["gguf"])


def test_a_device_s_memory_is_what_it_says() -> None:
    assert Device(id="x", title="X", memory_gb=8, reserved=0.25).usable(8 * 10**9) == 6 * 10**9
