"""What `phimill verify --rebuild` and `--measure` say of what they did again; the converters are stood in for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot import VERSION, again, catalog, preflight, recipes, toolchain
from bot.agreement import Finding
from bot.errors import ConverterFailed, RepoUnavailable, SourceCorrupt, UsageError
from bot.measures import Fidelity, WeightErrors, WeightOutlier
from bot.models import Artifact, ArtifactFile, Recipe, SourceFile, Status, Verdict
from bot.publication import Publication, PublishedVariant
from bot.rebuild import Rebuild
from bot.receipt import read_receipt
from bot.remeasure import Remeasure
from bot.settings import Settings
from bot.stages import EVALUATION, WINDOW_TOKENS, WINDOWS
from bot.verify import Measured, Published

GOLDEN = read_receipt((Path(__file__).parent / "cards" / "phi-3.5-gguf.json").read_bytes())
ROOT = Path(__file__).parents[2]
LOCK, SHA = "c" * 64, "e" * 40
RECIPE = recipes.by_id(["gguf/int4"])[0]
WEIGHTS, WORDS = b"weights", b"words"


def publication(**changes: Any) -> Publication:
    first = next(v for v in GOLDEN.variants if v.recipe == RECIPE.id)
    files = (ArtifactFile.of("m-Q4_K_M.gguf", WEIGHTS),)
    extras = (ArtifactFile.of("imatrix.gguf", WORDS),)
    made = {"files": files, "extras": extras, "toolchain": LOCK, "recipe_digest": RECIPE.digest, "made_from": "f" * 64}
    variant = first.model_copy(update={**made, **changes.pop("variant", {})})
    state = {"variants": (variant,), "phimill": VERSION, "tools": {"llama": "1"}}
    return GOLDEN.model_copy(update={**state, **changes})


class Stages:
    """Makes what it is told to make, and remembers what is left of it."""

    made: dict[str, bytes] | Exception
    figures: Fidelity
    left: set[str]
    asked: list[dict[str, Any]]

    def __init__(self, settings: Settings, hub: Any, request: Any, *others: Any, apart: str) -> None:
        self._folder = settings.home / "work" / "variant" / "made"
        Stages.asked.append({"request": request, "apart": apart})

    def folder(self, recipe: Recipe) -> Path:
        return self._folder

    def convert(self, recipe: Recipe, telling: Any) -> Artifact:
        Stages.left.add(recipe.id)
        if isinstance(Stages.made, Exception):
            raise Stages.made
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, data in Stages.made.items():
            (self._folder / name).write_bytes(data)
        files = tuple(ArtifactFile.of(name, data) for name, data in Stages.made.items())
        return Artifact(recipe=recipe.id, files=files, bits_per_weight=4.5)

    def place(self, recipe: Recipe, variant: PublishedVariant, bring: Any) -> None:
        Stages.left.add(recipe.id)
        for file in variant.files:
            bring(file, self._folder)
            assert (self._folder / file.path).read_bytes() == PUBLISHED[file.path]

    def prove(self, recipe: Recipe, telling: Any) -> Fidelity:
        return Stages.figures

    def drop(self, recipe: Recipe) -> None:
        Stages.left.discard(recipe.id)

    def clear(self) -> None:
        Stages.left.discard("shared")


PUBLISHED = {"m-Q4_K_M.gguf": WEIGHTS, "imatrix.gguf": WORDS}


class Hub:
    @contextmanager
    def stream(self, repo: str, sha: str, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        yield iter([PUBLISHED[path][start:]])


class Ear:
    def write(self, *said: str) -> None: ...
    def set_progress(self, build: str, progress: Any) -> None: ...


@pytest.fixture(autouse=True)
def _stood_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Stages.made, Stages.left, Stages.asked = PUBLISHED, {"shared"}, []
    monkeypatch.setattr(again, "Stages", Stages)
    monkeypatch.setattr(toolchain, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(toolchain, "code_path", lambda **_: ROOT)
    monkeypatch.setattr(toolchain, "lock_digest", lambda _: LOCK)
    monkeypatch.setattr(toolchain, "named_versions", lambda *_, **__: {"llama": "1"})
    monkeypatch.setattr(catalog, "release", lambda hub, ref: SimpleNamespace(repo=ref.repo, sha=ref.revision))
    monkeypatch.setattr(catalog, "classify_files", lambda _: SimpleNamespace(made_from="f" * 64))
    verdict = Verdict(recipe=RECIPE.id, status=Status.SUPPORTED)
    monkeypatch.setattr(preflight, "verdicts", lambda *_: (verdict,))


def there(state: Publication | None) -> Published:
    files = tuple(
        SourceFile(path=name, size=len(data), digest=hashlib.sha256(data).hexdigest())
        for name, data in PUBLISHED.items()
    )
    return Published(GOLDEN.repo, "v1.1", SHA, files, state)


def rebuilt(tmp_path: Path, state: Publication | None) -> tuple[list[str], list[str], tuple[Finding, ...]]:
    """The statuses, the findings as lines, and the findings."""
    mill: Any = SimpleNamespace(settings=Settings(home=tmp_path), hub=Hub(), journal=None)
    place = there(state)
    outcome = again.again(Rebuild, mill, place, again.chosen(place), Ear())
    assert Stages.left <= ({"shared"} if not Stages.asked else set())
    return [one.status for one in outcome.rebuilt], [str(one) for one in outcome.findings], outcome.findings


def measured(tmp_path: Path, state: Publication) -> tuple[list[Measured], list[str]]:
    """How it ended, and the findings as lines."""
    mill: Any = SimpleNamespace(settings=Settings(home=tmp_path), hub=Hub(), journal=None)
    place = there(state)
    outcome = again.again(Remeasure, mill, place, again.chosen(place), Ear())
    assert Stages.left <= ({"shared"} if not Stages.asked else set())
    return list(outcome.measured), [str(one) for one in outcome.findings]


def with_figures(**changes: Any) -> Publication:
    """A receipt of figures that could have been measured here."""
    figures = GOLDEN.variants[0].fidelity.model_copy(
        update={"kl_mean": 0.01, "top1": 0.9, "windows": WINDOWS, "window_tokens": WINDOW_TOKENS} | changes
    )
    text = hashlib.sha256((ROOT / EVALUATION).read_bytes()).hexdigest()
    return publication(variant={"fidelity": figures}, evaluation_sha256=text)


@pytest.mark.parametrize(("kl", "top1"), [(0.01, 0.9), (0.0104, 0.9), (0.01, 0.895)])
def test_what_is_measured_again_may_differ_by_the_rounding_of_another_processor(
    tmp_path: Path, kl: float, top1: float
) -> None:
    Stages.figures = with_figures(kl_mean=kl, top1=top1).variants[0].fidelity
    [row], lines = measured(tmp_path, with_figures())
    assert (row.status, row.kl_mean, row.recorded) == ("same", kl, 0.01)
    assert lines == []


def test_figures_that_cannot_be_measured_again_are_named(tmp_path: Path) -> None:
    Stages.figures = with_figures(kl_mean=0.02, top1=0.8).variants[0].fidelity
    [row], lines = measured(tmp_path, with_figures())
    assert row.status == "differs"
    assert lines == [
        "phimill.json: mean KL of gguf/int4 measured again: expected 0.01, found 0.02",
        "phimill.json: top-1 of gguf/int4 measured again: expected 90.00%, found 80.00%",
    ]


def test_weights_that_stand_out_now_and_not_then_are_named(tmp_path: Path) -> None:
    found = WeightOutlier(tensor="model.layers.3.w", kind="Q4_K", error=0.5, usual=0.1)
    clean = WeightErrors(compared=20, groups=4, without_siblings=0, not_found=0, stand_out=0)
    Stages.figures = with_figures(
        weights=clean.model_copy(update={"stand_out": 1, "outliers": (found,)})
    ).variants[0].fidelity  # fmt: skip
    [row], lines = measured(tmp_path, with_figures(weights=clean))
    assert row.status == "differs"
    assert lines == ["phimill.json: weights of gguf/int4 that stand out: expected none, found model.layers.3.w"]
    assert measured(tmp_path, with_figures())[0][0].status == "same", "a receipt from before they were compared"


def test_small_divergences_are_compared_by_what_they_are_worth(tmp_path: Path) -> None:
    Stages.figures = with_figures(kl_mean=9e-8).variants[0].fidelity
    assert measured(tmp_path, with_figures(kl_mean=2e-9))[0][0].status == "same"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"evaluation_sha256": "0" * 64}, "are of another text"),
        ({"variants": "swapped"}, "m-Q4_K_M.gguf is not the file that the receipt lists"),
        ({"variants": "shorter"}, "m-Q4_K_M.gguf is not the file that the receipt lists"),
        ({"variants": "elsewhere"}, "The repo holds a file named '../m.gguf'"),
        ({"source": "../../x"}, "is not a repo id"),
    ],
)
def test_what_cannot_be_measured_says_why_and_is_no_success(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    state = with_figures()
    files = {
        "swapped": ArtifactFile.of("m-Q4_K_M.gguf", WEIGHTS.upper()),
        "shorter": ArtifactFile.of("m-Q4_K_M.gguf", WEIGHTS[1:]),
        "elsewhere": ArtifactFile.of("../m.gguf", WEIGHTS),
    }
    if (kind := changes.get("variants")) is not None:
        changes = {"variants": (state.variants[0].model_copy(update={"files": (files[kind],)}),)}
    [row], lines = measured(tmp_path, state.model_copy(update=changes))
    assert (row.status, row.kl_mean) == ("not_measured", None)
    assert why in lines[-1]


def test_what_is_made_again_is_identical_and_nothing_is_left(tmp_path: Path) -> None:
    assert rebuilt(tmp_path, publication())[:2] == (["identical"], [])


def test_it_is_made_apart_for_the_namespace_of_the_receipt_from_the_commit_of_its_version(tmp_path: Path) -> None:
    rebuilt(tmp_path, publication(variant={"version": "v0.9"}, versions={"v0.9": "a" * 40}))
    rebuilt(tmp_path, publication())
    first, second = Stages.asked
    assert first["apart"] != second["apart"]
    assert (first["request"].sha, second["request"].sha) == ("a" * 40, GOLDEN.source_sha)
    assert first["request"].namespace == GOLDEN.repo.split("/")[0]
    assert first["request"].targets == ()


def test_other_bytes_are_named_and_explained(tmp_path: Path) -> None:
    Stages.made = {"m-Q4_K_M.gguf": b"weighty", "imatrix.gguf": WORDS}
    statuses, lines, findings = rebuilt(tmp_path, publication())
    assert statuses == ["differs"]
    assert lines[0].startswith("m-Q4_K_M.gguf: SHA-256 of the rebuild of gguf/int4: expected ")
    assert lines[1] == "m-Q4_K_M.gguf: byte 6 is the first that differs"
    assert not any(finding.warning for finding in findings)
    assert [*(tmp_path / "work" / "tmp").iterdir()] == []


def test_a_file_more_or_less_is_named(tmp_path: Path) -> None:
    Stages.made = {"m-Q4_K_M.gguf": WEIGHTS, "new.gguf": b""}
    statuses, lines, _ = rebuilt(tmp_path, publication())
    assert statuses == ["differs"]
    assert lines == [
        "imatrix.gguf: the rebuild of gguf/int4 does not make it",
        "new.gguf: the rebuild of gguf/int4 makes it, and it was not published",
    ]


def test_other_tools_are_said_plainly_and_are_only_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "lock_digest", lambda _: "d" * 64)
    monkeypatch.setattr(toolchain, "named_versions", lambda *_, **__: {"llama": "2"})
    statuses, lines, findings = rebuilt(tmp_path, publication(phimill="0.0.1"))
    assert statuses == ["identical"]
    assert all(finding.warning for finding in findings)
    assert f"expected {LOCK}, found {'d' * 64}" in lines[0]
    assert "this machine has other tools" in lines[0]
    assert lines[1] == "phimill.json: version of llama: expected 1, found 2"
    assert f"expected 0.0.1, found {VERSION}" in lines[2]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"backend": "abacus"}, "this phimill has no backend 'abacus'"),
        ({"variant": {"recipe": "gguf/gone"}}, "this phimill has no such recipe"),
        ({"variant": {"recipe_digest": "0" * 64}}, "its recipe has changed since"),
        ({"variant": {"made_from": "0" * 64}}, "has other files than it was made from"),
        ({"source": "../../x"}, "is not a repo id"),
        ({"repo": "../../x"}, "is not a repo id"),
    ],
)
def test_what_cannot_be_rebuilt_says_why_and_is_no_success(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    statuses, lines, findings = rebuilt(tmp_path, publication(**changes))
    assert statuses == ["not_rebuilt"]
    assert why in lines[-1]
    assert not findings[-1].warning


@pytest.mark.parametrize("error", [ConverterFailed("It broke."), SourceCorrupt("It is torn.")])
def test_a_converter_that_fails_is_a_finding(tmp_path: Path, error: Exception) -> None:
    Stages.made = error
    statuses, [line], _ = rebuilt(tmp_path, publication())
    assert statuses == ["not_rebuilt"]
    assert line == f"m-Q4_K_M.gguf: gguf/int4 cannot be rebuilt: {error}"


def test_a_source_that_is_gone_cannot_be_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise RepoUnavailable("It does not exist.")

    monkeypatch.setattr(catalog, "release", gone)
    assert rebuilt(tmp_path, publication())[0] == ["not_rebuilt"]


def test_what_this_machine_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict(recipe=RECIPE.id, status=Status.SUPPORTED, lacks=("Too little memory.",))
    monkeypatch.setattr(preflight, "verdicts", lambda *_: (verdict,))
    assert rebuilt(tmp_path, publication())[1] == ["m-Q4_K_M.gguf: gguf/int4 cannot be rebuilt: Too little memory."]


def test_only_what_stands_can_be_asked_for() -> None:
    variants: tuple[PublishedVariant, ...] = again.chosen(there(publication()), [RECIPE.id, RECIPE.id])
    assert [variant.recipe for variant in variants] == [RECIPE.id]
    with pytest.raises(UsageError, match="has no 'gguf/none'"):
        again.chosen(there(publication()), ["gguf/none"])


def test_without_a_receipt_that_can_be_read_nothing_is_rebuilt(tmp_path: Path) -> None:
    assert rebuilt(tmp_path, None) == ([], [], ())
