from __future__ import annotations

import pytest

from bot import ledger
from bot.errors import NotOurs, Superseded
from bot.measures import Fidelity
from bot.models import ArtifactFile
from bot.publication import Declined, Publication, PublishedVariant, SourceDigests

SHA, NEWER = "1" * 40, "2" * 40
OLD = SourceDigests(weights="a" * 64, assets="b" * 64, readme="c" * 64)
NEW = SourceDigests(weights="f" * 64, assets="b" * 64, readme="c" * 64)
PERFECT = Fidelity(
    kl_mean=0, kl_p99=0, top1=1, perplexity_ratio=1, windows=8, window_tokens=256,
    finite=True, same_end_tokens=True, tokenizer_agrees=True,
)  # fmt: skip


def fresh(sha: str = SHA, digests: SourceDigests = OLD, version: str = "v1.0") -> Publication:
    return Publication(
        repo="phimill/m-GGUF", backend="gguf", source="microsoft/m", source_sha=sha, digests=digests,
        version=version, complete=False,
    )  # fmt: skip


def variant(name: str, digests: SourceDigests = OLD, content: bytes = b"x") -> PublishedVariant:
    return PublishedVariant(
        recipe=f"gguf/{name}", title=name, precision="INT4", preset="recommended", suits="all",
        recipe_digest="d" * 64, toolchain="e" * 64, made_from=digests.made_from, version="?",
        files=(ArtifactFile.of(f"m-{name}.gguf", content),), bits_per_weight=4.9, fidelity=PERFECT,
    )  # fmt: skip


def published(*names: str, complete: bool = True, **kwargs: str) -> Publication:
    state = fresh(**kwargs)
    for name in names:
        state = ledger.add(state, variant(name))
    return ledger.close(state) if complete else state


def declined(name: str, digests: SourceDigests = OLD) -> Declined:
    return Declined(
        recipe=f"gguf/{name}", recipe_digest="d" * 64, toolchain="e" * 64, made_from=digests.made_from,
        by="gate", reason="KL",
    )  # fmt: skip


def test_variants_are_kept_in_one_order_however_they_arrive() -> None:
    one = ledger.add(ledger.add(fresh(), variant("a")), variant("b"))
    other = ledger.add(ledger.add(fresh(), variant("b")), variant("a"))
    assert one == other


def test_an_added_variant_belongs_to_the_version_under_way() -> None:
    assert ledger.add(fresh(version="v1.4"), variant("a")).variants[0].version == "v1.4"


def test_a_complete_version_is_never_added_to() -> None:
    begun = ledger.begin(published("a"), fresh())
    assert (begun.version, begun.complete) == ("v1.1", False)
    assert [v.recipe for v in begun.variants] == ["gguf/a"]


def test_a_version_under_way_is_gone_on_with() -> None:
    assert ledger.begin(published("a", complete=False), fresh()).version == "v1.0"


def test_who_signed_what_stands_is_kept_until_the_next_commit() -> None:
    signed = published("q4").model_copy(update={"signer": "a" * 64})
    assert ledger.begin(signed, fresh()).signer == "a" * 64
    assert ledger.refresh(signed, fresh(NEWER)).signer == "a" * 64


def test_completing_a_version_drops_what_was_made_from_older_weights() -> None:
    begun = ledger.begin(published("a", "b"), fresh(NEWER, NEW, "v2.0"))
    state = ledger.close(ledger.add(begun, variant("a", NEW)))
    assert [v.recipe for v in state.variants] == ["gguf/a"]
    assert state.versions == {"v1.0": SHA, "v2.0": NEWER}
    assert ledger.gone(begun, state) == ["m-b.gguf"]


def test_a_variant_whose_files_change_names_leaves_nothing_behind() -> None:
    old = published("a")
    split = variant("a").model_copy(update={"files": (ArtifactFile.of("m-a-00001-of-00001.gguf", b"x"),)})
    assert ledger.gone(old, ledger.add(old, split)) == ["m-a.gguf"]


def test_a_build_of_an_older_commit_does_not_touch_a_newer_version() -> None:
    newer = published("a", sha=NEWER, version="v2.0")
    with pytest.raises(Superseded, match=r"already holds v2\.0"):
        ledger.begin(newer, fresh())


def test_a_build_planned_before_the_weights_changed_does_not_go_into_the_version_that_has_the_new_ones() -> None:
    """Both were planned as v1.0 while nothing stood; the one of the newer commit was faster."""
    newer = ledger.close(ledger.add(fresh(NEWER, NEW), variant("a", NEW)))
    with pytest.raises(Superseded):
        ledger.begin(newer, fresh())


def test_another_source_of_the_same_name_is_never_mixed_in() -> None:
    stranger = fresh().model_copy(update={"source": "someone/m"})
    for change in (ledger.begin, ledger.refresh):
        with pytest.raises(NotOurs, match="holds conversions of microsoft/m"):
            change(published("a"), stranger)


def test_a_new_version_of_which_everything_is_declined_leaves_what_stands() -> None:
    head, no = published("a", "b"), declined("a", NEW)
    state = ledger.settle(head, fresh(NEWER, NEW, "v2.0"), [no])
    assert (state.version, state.complete, state.variants) == ("v1.0", True, head.variants)
    assert state.source_sha == SHA
    assert state.declined == (no,)


def test_the_end_of_a_build_completes_its_version_without_what_could_not_be_made() -> None:
    head = published("a", complete=False)
    state = ledger.settle(head, fresh(), [declined("b")])
    assert (state.complete, [v.recipe for v in state.variants]) == (True, ["gguf/a"])


def test_the_end_of_a_build_that_another_one_completed_changes_nothing() -> None:
    head = published("a", "b")
    assert ledger.settle(head, fresh(), []) == head


def test_a_readme_change_keeps_version_and_variants() -> None:
    head = published("a", "b")
    state = ledger.refresh(head, fresh(NEWER))
    assert (state.version, state.complete, state.source_sha) == ("v1.0", True, NEWER)
    assert state.variants == head.variants


def test_a_published_variant_is_no_longer_declined() -> None:
    no = Declined(
        recipe="gguf/a",
        recipe_digest="d" * 64,
        toolchain="e" * 64,
        made_from=OLD.made_from,
        by="gate",
        reason="KL",
    )
    state = ledger.decline(fresh(), no)
    assert ledger.add(state, variant("a")).declined == ()


def test_what_stands_is_found_by_recipe_form_and_source() -> None:
    head = published("a")
    assert ledger.stands(head, "gguf/a", "d" * 64, OLD.made_from)
    assert not ledger.stands(head, "gguf/a", "0" * 64, OLD.made_from)
    assert not ledger.stands(head, "gguf/a", "d" * 64, NEW.made_from)
    assert not ledger.stands(None, "gguf/a", "d" * 64, OLD.made_from)


def test_versions_are_ordered_by_number() -> None:
    assert sorted(["v1.10", "v1.9", "v10.0", "v2.0"], key=ledger.order) == ["v1.9", "v1.10", "v2.0", "v10.0"]
