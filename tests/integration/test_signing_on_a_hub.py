"""Signed publishing: the real steps, publisher, Hub and keys. Only the converter is not real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import key_files
import phi_repos
import press
import pytest
from huggingface_hub import CommitOperationDelete
from key_files import KeyFiles
from model_signing import verifying
from press import Mill, Press
from two_repos import DESK

from bot import converter, verify
from bot.converter_events import Made
from bot.errors import KeyUnusable
from bot.publication import RECEIPT_PATH, SIGNATURE_PATH
from bot.signature import Verifier, signed_by
from bot.signing import Signer


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    return key_files.make(tmp_path)


@pytest.fixture
def mill(tmp_path: Path, key: KeyFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    with press.standing(tmp_path, monkeypatch, Signer(key.private)) as mill:
        mill.release()
        yield mill


def wrong(mill: Mill, key: KeyFiles, revision: str = "main") -> list[str]:
    """What `phimill verify` finds wrong at a commit, when its signature has to be of that key."""
    hub = mill.publisher._hub
    found = verify.verify(hub, verify.published(hub, f"{DESK}@{revision}"), verifier=Verifier(key.public))
    assert (found.signer is not None) == (found.findings == ())
    return [str(finding) for finding in found.findings if not finding.warning]


def shas(mill: Mill) -> list[str]:
    """The commits that phimill made, oldest first."""
    made = [commit.commit_id for commit in reversed(mill.api.list_repo_commits(DESK))]
    return [sha for sha in made if "phimill.json" in held(mill, sha)]


def held(mill: Mill, revision: str = "main") -> str:
    return " ".join(mill.api.list_repo_files(DESK, revision=revision))


def renew(mill: Mill, licence: str) -> None:
    """A commit that a new readme of the source leads to."""
    phi_repos.card(mill.folder, f"license: {licence}")
    mill.release()
    mill.build(mill.plan())


def test_every_commit_is_signed_and_the_standard_s_own_code_agrees(mill: Mill, key: KeyFiles, tmp_path: Path) -> None:
    mill.build(mill.plan())
    commits = shas(mill)
    assert len(commits) == 2
    for number, sha in enumerate([*commits, "v1.0"]):
        folder = Path(mill.api.snapshot_download(DESK, revision=sha, local_dir=tmp_path / f"model-{number}"))
        assert signed_by((folder / SIGNATURE_PATH).read_bytes()) == key.fingerprint
        check = verifying.Config().use_elliptic_key_verifier(public_key=key.public)
        check.verify(folder, folder / SIGNATURE_PATH)
    assert wrong(mill, key, "v1.0") == []
    assert mill.state(DESK).signer == key.fingerprint


def test_doing_it_again_makes_no_commit_though_every_signature_is_another(mill: Mill, key: KeyFiles) -> None:
    request = mill.plan()
    mill.build(request)
    before = mill.commits(DESK)
    assert mill.publisher.signer is not None
    assert mill.publisher.signer.sign(DESK, {}) != mill.publisher.signer.sign(DESK, {})
    mill.kept.clear()
    mill.build(request)
    assert mill.commits(DESK) == before


def test_another_key_makes_no_commit_by_itself_and_signs_the_next_one(
    mill: Mill, key: KeyFiles, tmp_path: Path
) -> None:
    request = mill.plan()
    mill.build(request)
    before, newer = mill.commits(DESK), key_files.make(tmp_path, "newer")
    mill.publisher.signer = Signer(newer.private)
    mill.kept.clear()
    mill.build(request)
    assert mill.commits(DESK) == before
    renew(mill, "mit")
    assert wrong(mill, newer) == []
    assert [line.split(":")[0] for line in wrong(mill, key)] == [SIGNATURE_PATH]
    assert wrong(mill, key, "v1.0") == [], "a tag stays what it was"


def test_without_a_key_the_next_commit_takes_the_signature_away(mill: Mill, key: KeyFiles) -> None:
    mill.build(mill.plan())
    mill.publisher.signer = None
    renew(mill, "mit")
    assert SIGNATURE_PATH not in held(mill)
    assert mill.state(DESK).signer is None
    assert wrong(mill, key) == [f"{SIGNATURE_PATH}: there is none: the repo is not signed"]
    hub = mill.publisher._hub
    assert verify.verify(hub, verify.published(hub, f"{DESK}@main")).findings == ()
    mill.publisher.signer = Signer(key.private)
    renew(mill, "apache-2.0")
    assert wrong(mill, key) == []


def test_a_signature_that_the_receipt_does_not_know_of_goes_too(mill: Mill, key: KeyFiles) -> None:
    mill.publisher.signer = None
    mill.build(mill.plan())
    mill.api.upload_file(path_or_fileobj=b"{}", path_in_repo=SIGNATURE_PATH, repo_id=DESK)
    renew(mill, "mit")
    assert SIGNATURE_PATH not in held(mill)


def test_what_somebody_else_put_there_is_not_signed(mill: Mill, key: KeyFiles) -> None:
    mill.build(mill.plan())
    mill.api.upload_file(path_or_fileobj=b"print()", path_in_repo="evil.py", repo_id=DESK)
    renew(mill, "mit")
    assert f"evil.py: {SIGNATURE_PATH} does not cover it" in wrong(mill, key)


def test_what_somebody_else_took_away_is_missed(mill: Mill, key: KeyFiles) -> None:
    mill.build(mill.plan())
    taken = [CommitOperationDelete("phi-int4.bin"), CommitOperationDelete(SIGNATURE_PATH)]
    mill.api.create_commit(DESK, taken, commit_message="Gone")
    assert f"{SIGNATURE_PATH}: it is missing" in wrong(mill, key)
    renew(mill, "mit")
    assert f"phi-int4.bin: it is missing, and {SIGNATURE_PATH} covers it" in wrong(mill, key)


def test_without_a_key_it_is_found_that_another_signed_than_the_receipt_says(
    mill: Mill, key: KeyFiles, tmp_path: Path
) -> None:
    mill.build(mill.plan())
    other = key_files.make(tmp_path, "other")
    theirs = Signer(other.private).sign(DESK, {})
    mill.api.upload_file(path_or_fileobj=theirs, path_in_repo=SIGNATURE_PATH, repo_id=DESK)
    hub = mill.publisher._hub
    found = verify.verify(hub, verify.published(hub, f"{DESK}@main"))
    [finding] = [finding for finding in found.findings if not finding.warning]
    assert (finding.file, finding.expected, finding.found) == (SIGNATURE_PATH, key.fingerprint, other.fingerprint)


def test_where_the_receipt_cannot_be_read_the_signature_is_checked_all_the_same(mill: Mill, key: KeyFiles) -> None:
    mill.build(mill.plan())
    mill.api.upload_file(path_or_fileobj=b"{", path_in_repo=RECEIPT_PATH, repo_id=DESK)
    assert any(line.startswith(f"{RECEIPT_PATH}: SHA-256 in {SIGNATURE_PATH}") for line in wrong(mill, key))


@pytest.mark.parametrize("name", ["notes.txt", "notes.dat"], ids=["in git", "in LFS"])
def test_a_file_that_variants_share_is_signed_as_the_last_of_them_left_it(
    mill: Mill, key: KeyFiles, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def convert(self: Press, request: dict[str, object]) -> object:
        recipe, out = request["recipe"], Path(str(request["out"]))
        assert isinstance(recipe, dict)
        file = f"phi-{recipe['id'].split('/')[1]}.bin"
        (out / file).write_text(recipe["id"])
        (out / name).write_text(f"beside {recipe['id']}")
        made = Made(event="artifact", recipe=recipe["id"], files=(file,), extras=(name,), bits_per_weight=4.0)
        return converter.artifact(out, made)

    monkeypatch.setattr(Press, "_convert", convert)
    mill.build(mill.plan())
    assert len({extra.sha256 for variant in mill.state(DESK).variants for extra in variant.extras}) == 2
    assert wrong(mill, key) == []
    renew(mill, "mit")
    assert wrong(mill, key) == []


def test_a_key_that_is_gone_ends_the_build_before_its_commit_and_says_so(mill: Mill, key: KeyFiles) -> None:
    request = mill.plan()
    mill.press.before = lambda _recipe: key.private.unlink(missing_ok=True)
    outcome = mill.build(request)
    assert outcome.failure is not None
    assert (outcome.failure.code, "cannot be read" in outcome.failure.message) == (KeyUnusable.code, True)
    assert not mill.api.repo_exists(DESK)


def test_a_key_that_was_replaced_ends_a_build_before_it_begins(mill: Mill, tmp_path: Path) -> None:
    request = mill.plan()
    key_files.make(tmp_path)
    outcome = mill.build(request)
    assert outcome.failure is not None
    assert (outcome.failure.code, mill.press.calls) == (KeyUnusable.code, [])


def test_the_receipt_and_the_card_name_the_key_and_hold_nothing_of_its_private_half(
    mill: Mill, key: KeyFiles, tmp_path: Path
) -> None:
    mill.build(mill.plan())
    folder = Path(mill.api.snapshot_download(DESK, local_dir=tmp_path / "model"))
    assert json.loads((folder / "phimill.json").read_bytes())["signer"] == key.fingerprint
    assert key.fingerprint in (folder / "README.md").read_text()
    secret = key.private.read_text().splitlines()[1].encode()
    assert not [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]
