"""What a signature says: these files, as they are, no others, by this key. Checked by us and by the standard."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import key_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_files import KeyFiles
from model_signing import verifying

from bot import keys
from bot.errors import KeyUnusable
from bot.models import ArtifactFile
from bot.signature import Verifier, signed_by
from bot.signing import Signer

FILES = {"README.md": b"card", "phi.gguf": b"weights", "cpu/int4/model.onnx": b"graph", "phimill.json": b"{}"}
HELD = {path: ArtifactFile.of(path, data) for path, data in FILES.items()}
DIGESTS = {path: file.sha256 for path, file in HELD.items()}
NAMES = st.text("abc0._-", min_size=1, max_size=8).filter(lambda name: name.strip("."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return key_files.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signature(key: KeyFiles) -> bytes:
    return Signer(key.private).sign("phimill/phi", DIGESTS)


def found(key: KeyFiles, signature: bytes | None, held: dict[str, ArtifactFile]) -> dict[str, str]:
    """What is wrong, by file."""
    return {finding.file: finding.what for finding in Verifier(key.public).findings(signature, held)}


def written(folder: Path, signature: bytes) -> Path:
    for path, data in {**FILES, "model.sig": signature}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.mark.parametrize("curve", keys.CURVES.values())
def test_what_was_signed_holds_with_every_curve_here_and_by_the_standard(tmp_path: Path, curve: str) -> None:
    key = key_files.make(tmp_path, curve=curve)
    signature = Signer(key.private).sign("phimill/phi", DIGESTS)
    assert found(key, signature, HELD) == {}
    assert signed_by(signature) == key.fingerprint
    folder = written(tmp_path / "model", signature)
    verifying.Config().use_elliptic_key_verifier(public_key=key.public).verify(folder, folder / "model.sig")


@given(held=st.dictionaries(PATHS, st.binary(max_size=4), min_size=1, max_size=8), data=st.data())
@settings(max_examples=60)
def test_any_one_file_that_is_changed_added_or_removed_is_named(
    key: KeyFiles, held: dict[str, bytes], data: st.DataObject
) -> None:
    files = {path: ArtifactFile.of(path, content) for path, content in held.items()}
    signature = Signer(key.private).sign("phimill/phi", {path: file.sha256 for path, file in files.items()})
    assert found(key, signature, files) == {}
    victim = data.draw(st.sampled_from(sorted(files)))
    changed = ArtifactFile.of(victim, held[victim] + b"!")
    assert found(key, signature, {**files, victim: changed}) == {victim: "SHA-256 in model.sig"}
    less = {path: file for path, file in files.items() if path != victim}
    assert found(key, signature, less) == {victim: "it is missing, and model.sig covers it"}
    new = data.draw(PATHS.filter(lambda path: path not in files))
    more = {**files, new: ArtifactFile.of(new, b"")}
    assert found(key, signature, more) == {new: "model.sig does not cover it"}


def test_what_git_keeps_and_the_signature_itself_are_not_covered(key: KeyFiles, signature: bytes) -> None:
    own = {path: ArtifactFile.of(path, b"anything") for path in ("model.sig", ".gitattributes")}
    assert found(key, signature, {**HELD, **own}) == {}
    assert found(key, signature, {**HELD, "sub/model.sig": own["model.sig"]}) == {
        "sub/model.sig": "model.sig does not cover it"
    }


def test_the_standard_s_own_code_finds_a_changed_byte_and_a_new_file(
    tmp_path: Path, key: KeyFiles, signature: bytes
) -> None:
    folder = written(tmp_path, signature)
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "phi.gguf.metadata").write_text("of the download")
    (folder / ".gitattributes").write_text("* -text")
    check = verifying.Config().use_elliptic_key_verifier(public_key=key.public)
    check.verify(folder, folder / "model.sig")
    (folder / "phi.gguf").write_bytes(b"Weights")
    with pytest.raises(ValueError, match=r"Hash mismatch for 'phi\.gguf'"):
        check.verify(folder, folder / "model.sig")
    (folder / "phi.gguf").write_bytes(FILES["phi.gguf"])
    (folder / "evil.py").touch()
    with pytest.raises(ValueError, match=r"Extra files.*evil\.py"):
        check.verify(folder, folder / "model.sig")


def test_another_key_is_told_by_its_fingerprint(tmp_path: Path, key: KeyFiles, signature: bytes) -> None:
    other = key_files.make(tmp_path)
    [finding] = Verifier(other.public).findings(signature, HELD)
    assert (finding.file, finding.expected, finding.found) == ("model.sig", other.fingerprint, key.fingerprint)


def test_a_signature_of_another_key_under_the_name_of_this_one_does_not_hold(tmp_path: Path, key: KeyFiles) -> None:
    forged = json.loads(Signer(key_files.make(tmp_path).private).sign("phimill/phi", DIGESTS))
    forged["verificationMaterial"]["publicKey"]["hint"] = key.fingerprint
    assert "not the signature of this key" in found(key, json.dumps(forged).encode(), HELD)["model.sig"]


def test_a_manifest_that_was_changed_after_signing_does_not_hold(key: KeyFiles, signature: bytes) -> None:
    other = json.loads(Signer(key.private).sign("phimill/phi", {**DIGESTS, "phi.gguf": hashlib.sha256().hexdigest()}))
    mixed = json.loads(signature)
    mixed["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    assert "not the signature of this key" in found(key, json.dumps(mixed).encode(), HELD)["model.sig"]


def test_an_unsigned_repo_is_not_taken_for_a_signed_one(key: KeyFiles) -> None:
    assert found(key, None, HELD) == {"model.sig": "there is none: the repo is not signed"}


@given(data=st.data())
def test_a_signature_with_any_byte_changed_holds_for_nothing_else(
    key: KeyFiles, signature: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(signature) - 1))
    changed = signature[:at] + bytes([data.draw(st.integers(0, 255))]) + signature[at + 1 :]
    assert found(key, changed, {**HELD, "README.md": ArtifactFile.of("README.md", b"another card")})


@pytest.mark.parametrize(
    "junk", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"verificationMaterial": {"publicKey": []}}']
)
def test_what_is_no_signature_is_said_to_be_none(key: KeyFiles, junk: bytes) -> None:
    assert signed_by(junk) is None
    assert found(key, junk, HELD) == {"model.sig": "fingerprint of the key"}


def test_what_names_the_key_and_is_no_signature_proves_nothing(key: KeyFiles) -> None:
    for more in ({}, {"mediaType": "x"}, {"dsseEnvelope": {"signatures": []}}):
        made_up = {"verificationMaterial": {"publicKey": {"hint": key.fingerprint}}, **more}
        assert "not the signature of this key" in found(key, json.dumps(made_up).encode(), HELD)["model.sig"]


def test_a_key_that_is_replaced_or_taken_away_meanwhile_is_not_signed_with(tmp_path: Path) -> None:
    key = key_files.make(tmp_path)
    signer = Signer(key.private)
    key_files.make(tmp_path)
    with pytest.raises(KeyUnusable, match="replaced"):
        signer.sign("phimill/phi", DIGESTS)
    key.private.unlink()
    with pytest.raises(KeyUnusable, match="cannot be read"):
        signer.sign("phimill/phi", DIGESTS)
