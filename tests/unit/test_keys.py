"""Key files: which can sign, which can be verified with, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import key_files
import pytest

from bot import keys
from bot.errors import KeyUnusable
from bot.settings import Settings
from bot.signing import Signer, signer


@pytest.mark.parametrize("curve", keys.CURVES.values())
def test_a_key_s_fingerprint_is_what_sha256sum_prints_of_its_public_half(tmp_path: Path, curve: str) -> None:
    made = key_files.make(tmp_path, curve=curve)
    assert keys.fingerprint(keys.public_half(made.private)) == made.fingerprint
    assert keys.fingerprint(keys.public_key(made.public)) == made.fingerprint


def locked(folder: Path) -> Path:
    made, path = key_files.make(folder), folder / "locked.pem"
    key_files.openssl("ec", "-in", made.private, "-aes256", "-passout", "pass:secret", "-out", path)
    return path


def rsa(folder: Path) -> Path:
    key_files.openssl("genrsa", "-out", folder / "rsa.pem", "2048")
    return folder / "rsa.pem"


def bitcoin(folder: Path) -> Path:
    return key_files.make(folder, curve="secp256k1").private


def public(folder: Path) -> Path:
    return key_files.make(folder).public


def no_key(folder: Path) -> Path:
    (folder / "notes.txt").write_text("Hello.")
    return folder / "notes.txt"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (lambda folder: folder / "none.pem", "cannot be read: No such file"),
        (lambda folder: folder, "cannot be read: Is a directory"),
        (no_key, "no private key in PEM form"),
        (public, "no private key in PEM form"),
        (locked, "locked with a passphrase"),
        (rsa, "not an elliptic curve key"),
        (bitcoin, "on the curve secp256k1"),
    ],
    ids=["missing", "folder", "text", "public", "locked", "rsa", "secp256k1"],
)
def test_a_file_that_cannot_sign_is_named_with_the_reason(
    tmp_path: Path, path: Callable[[Path], Path], says: str
) -> None:
    file = path(tmp_path)
    with pytest.raises(KeyUnusable, match=says) as raised:
        Signer(file)
    assert str(file) in raised.value.message
    assert raised.value.hint
    assert (raised.value.exit_code, raised.value.code) == (2, "key_unusable")


@pytest.mark.parametrize("path", [lambda folder: folder / "none.pub", no_key, locked])
def test_a_file_that_nothing_can_be_verified_with_is_named(tmp_path: Path, path: Callable[[Path], Path]) -> None:
    with pytest.raises(KeyUnusable):
        keys.public_key(path(tmp_path))


def test_a_public_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key_files.openssl("rsa", "-in", rsa(tmp_path), "-pubout", "-out", tmp_path / "rsa.pub")
    for file in (tmp_path / "rsa.pub", key_files.make(tmp_path, "bitcoin", "secp256k1").public):
        with pytest.raises(KeyUnusable):
            keys.public_key(file)


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    assert signer(Settings(home=tmp_path)) is None


@pytest.mark.parametrize("place", ["toolchains", "home/work/source"])
def test_a_key_that_converters_could_read_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    inside = key_files.make(tmp_path / place)
    outside = tmp_path / "link.pem"
    outside.symlink_to(inside.private)
    folders = {"home": tmp_path / "home", "toolchains": tmp_path / "toolchains"}
    for path in (inside.private, outside):
        with pytest.raises(KeyUnusable, match="where converters can read"):
            signer(Settings(signing_key=path, **folders))
    beside = key_files.make(tmp_path)
    found = signer(Settings(signing_key=beside.private, **folders))
    assert found is not None
    assert found.fingerprint == beside.fingerprint
