"""`phimill verify` and `explain` on a published release: what is as recorded, what is not, and who sees it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hub_world import BIN, MODEL, SOURCE, TARGET, Ran, World, run
from huggingface_hub import CommitOperationAdd
from published import Published

from bot import gguf_header, recipes
from bot.documents import documents
from bot.errors import NotAsRecorded, NotOurs, RepoUnavailable, UsageError
from bot.models import ArtifactFile
from bot.publication import Publication, PublishedVariant
from bot.receipt import read_receipt

pytestmark = pytest.mark.backend

WEIGHTS = f"{MODEL}-Q4_K_M.gguf"
RECIPE = "gguf/int4"
DOCUMENTS = ("README.md", "phimill.json", "provenance.intoto.jsonl")


def phimill(world: World, *words: str, **places: Path) -> Ran:
    """Run the command line as somebody who has no token, with a `home` and `toolchains` of their own if given."""
    surroundings = os.environ if places else {}  # to make toolchains, one has to reach the package index
    env = {name: value for name, value in {**surroundings, **world.env()}.items() if name != "HF_TOKEN"}
    env |= {f"PHIMILL_{name.upper()}": str(path) for name, path in places.items()}
    return run([BIN / "phimill", *words], env)


def wrong(ran: Ran) -> list[dict[str, Any]]:
    return [finding for finding in ran.json["findings"] if not finding["warning"]]


@pytest.fixture(scope="module")
def changeable(copy_of_published: Callable[..., World]) -> World:
    return copy_of_published("changeable")


@pytest.fixture
def changed(changeable: World) -> Iterator[Callable[[str], Ran]]:
    """Publishes a file with one byte in its middle changed, and verifies that commit; afterwards it is as before."""
    before: dict[str, bytes] = {}
    api = changeable.api()

    def change(path: str) -> Ran:
        before[path] = changeable.read(path, "v1.0")
        data = bytearray(before[path])
        middle = len(data) // 2
        data[middle] = ord("7") if data[middle] != ord("7") else ord("8")
        commit = api.upload_file(path_or_fileobj=bytes(data), path_in_repo=path, repo_id=TARGET)
        return phimill(changeable, "verify", f"{TARGET}@{commit.oid}", "--format", "json")

    yield change
    for path, data in before.items():
        api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=TARGET)


def test_what_the_mill_published_is_as_recorded(published: Published) -> None:
    ran = phimill(published.world, "verify", TARGET, "--format", "json")
    assert ran.code == 0, ran.err
    answer = ran.json
    assert (answer["ok"], answer["revision"], answer["source_sha"]) == (True, "v1.0", published.sha)
    assert answer["files"] == len(published.world.files("v1.0"))
    assert wrong(ran) == []


@pytest.mark.parametrize("path", [WEIGHTS, *DOCUMENTS])
def test_one_changed_byte_is_caught_and_named(changed: Callable[[str], Ran], path: str) -> None:
    ran = changed(path)
    assert ran.code == NotAsRecorded.exit_code, ran.err
    assert any(path in f"{finding['file']} {finding['what']}" for finding in wrong(ran))
    assert ran.error["code"] == "not_as_recorded"


def test_a_file_that_nobody_lists_and_one_that_is_gone_are_named(changeable: World) -> None:
    api = changeable.api()
    api.upload_file(path_or_fileobj=b"print()", path_in_repo="extra.py", repo_id=TARGET)
    commit = api.delete_file(WEIGHTS, TARGET)
    ran = phimill(changeable, "verify", f"{TARGET}@{commit.oid}")
    assert ran.code == NotAsRecorded.exit_code
    assert "wrong: extra.py: neither phimill.json nor provenance.intoto.jsonl lists it" in ran.out
    assert f"wrong: {WEIGHTS}: it is missing" in ran.out


def test_every_variant_is_rebuilt_byte_by_byte_in_a_second_environment_made_from_the_locks(
    published: Published, tmp_path: Path
) -> None:
    before = published.world.commits()
    nothing = {"home": tmp_path / "home", "toolchains": tmp_path / "toolchains"}
    ran = phimill(published.world, "verify", TARGET, "--rebuild", "--format", "json", **nothing)
    assert ran.code == 0, ran.out + ran.err
    receipt = published.world.receipt("v1.0")
    assert {one["recipe"]: one["status"] for one in ran.json["rebuilt"]} == {
        variant["recipe"]: "identical" for variant in receipt["variants"]
    }
    assert {one["source_sha"] for one in ran.json["rebuilt"]} == {published.sha}
    assert published.world.commits() == before
    work = tmp_path / "home" / "work"
    # Locks stay, as they do of every build.
    left = [path for kind in ("variant", "shared", "tmp") for path in (work / kind).iterdir()]
    assert [path for path in left if path.suffix != ".lock"] == []


def test_weights_that_do_not_come_from_the_source_are_caught_by_a_rebuild_though_all_hashes_agree(
    copy_of_published: Callable[..., World], tmp_path: Path
) -> None:
    world = copy_of_published("forged")
    forged, tensor = forge(world)
    assert phimill(world, "verify", f"{TARGET}@{forged}").code == 0
    words = ["verify", f"{TARGET}@{forged}", "--rebuild", "--only", RECIPE]
    ran = phimill(world, *words, home=tmp_path / "home")
    assert ran.code == NotAsRecorded.exit_code, ran.err
    assert f"rebuild of {RECIPE} from" in ran.out
    assert "is as recorded, but not all of it came out the same again: 2 findings." in ran.err
    assert f"wrong: {WEIGHTS}: tensor {tensor} (" in ran.out.replace("\n", " ")


def forge(world: World) -> tuple[str, str]:
    """Publish weights with another byte, and everything that is said about them; the commit, and the tensor's name."""
    data, state = bytearray(world.read(WEIGHTS, "v1.0")), read_receipt(world.read("phimill.json", "v1.0"))
    path = world.root / WEIGHTS
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        tensor, place = max(gguf_header.read(WEIGHTS, view).tensors.items(), key=lambda item: item[1].end)
    data[place.begin] ^= 1
    variants = []
    for variant in state.variants:
        files = [ArtifactFile.of(f.path, bytes(data)) if f.path == WEIGHTS else f for f in variant.files]
        variants.append(variant.model_copy(update={"files": tuple(files)}))
    return committed(world, state, variants, {WEIGHTS: bytes(data)}), tensor


def committed(
    world: World, state: Publication, variants: Sequence[PublishedVariant], files: Mapping[str, bytes]
) -> str:
    """Publish files, and receipt, statement and card that agree with them; the commit."""
    state = state.model_copy(update={"variants": tuple(variants)})
    everything = {**files, **documents(recipes.backends()["gguf"], state, world.hub.url)}
    operations = [CommitOperationAdd(name, content) for name, content in everything.items()]
    return world.api().create_commit(TARGET, operations, commit_message="Forged").oid


def test_a_figure_that_is_better_than_the_weights_is_caught_by_measuring_again(
    copy_of_published: Callable[..., World], tmp_path: Path
) -> None:
    world = copy_of_published("flattered")
    state = read_receipt(world.read("phimill.json", "v1.0"))
    better = {"kl_mean": 1e-6, "kl_p99": 1e-5}
    variants = [
        v.model_copy(update={"fidelity": v.fidelity.model_copy(update=better)}) if v.recipe == RECIPE else v
        for v in state.variants
    ]
    forged = committed(world, state, variants, {})
    assert phimill(world, "verify", f"{TARGET}@{forged}").code == 0
    words = ["verify", f"{TARGET}@{forged}", "--measure", "--only", RECIPE, "--only", "gguf/int8", "--format", "json"]
    ran = phimill(world, *words, home=tmp_path / "home")
    assert ran.code == NotAsRecorded.exit_code, ran.err
    assert {one["recipe"]: one["status"] for one in ran.json["measured"]} == {RECIPE: "differs", "gguf/int8": "same"}
    [finding] = wrong(ran)
    assert (finding["what"], finding["expected"]) == (f"mean KL of {RECIPE} measured again", "1e-06")
    work = tmp_path / "home" / "work"
    left = [path for kind in ("variant", "shared", "tmp") for path in (work / kind).iterdir()]
    assert [path for path in left if path.suffix != ".lock"] == []


def test_what_does_not_stand_cannot_be_rebuilt(published: Published) -> None:
    ran = phimill(published.world, "verify", TARGET, "--rebuild", "--only", "gguf/none", "--format", "json")
    assert (ran.code, ran.error["code"]) == (UsageError.exit_code, "usage")
    assert RECIPE in ran.error["hint"]


def test_that_the_source_is_gone_is_a_note(copy_of_published: Callable[..., World]) -> None:
    world = copy_of_published("sourceless")
    world.api("satya").delete_repo(SOURCE)
    ran = phimill(world, "verify", f"{TARGET}@v1.0", "--format", "json")
    assert ran.code == 0, ran.err
    assert any("the source cannot be compared" in finding["what"] for finding in ran.json["findings"])
    ran = phimill(world, "verify", f"{TARGET}@v1.0", "--rebuild", "--only", RECIPE, "--format", "json")
    assert ran.code == NotAsRecorded.exit_code
    assert [(one["recipe"], one["status"]) for one in ran.json["rebuilt"]] == [(RECIPE, "not_rebuilt")]


def test_it_is_explained_in_plain_words(published: Published) -> None:
    ran = phimill(published.world, "explain", TARGET)
    assert ran.code == 0, ran.err
    for said in (SOURCE, published.sha, "apache-2.0", "gguf/int4", "llama", "not audited", "phimill verify"):
        assert said in ran.out


@pytest.mark.parametrize("command", ["verify", "explain"])
@pytest.mark.parametrize(("repo", "error"), [("phimill/nothing", RepoUnavailable), (SOURCE, NotOurs)])
def test_what_phimill_did_not_publish_is_an_error_that_says_so(
    published: Published, command: str, repo: str, error: type[NotOurs]
) -> None:
    ran = phimill(published.world, command, repo, "--format", "json")
    assert (ran.code, ran.error["code"]) == (error.exit_code, error.code)
    assert "Traceback" not in ran.err
