"""Signs what is published, in the format of OpenSSF Model Signing: the SHA-256 of every file, under one signature.

The library's own way is to read and hash a whole folder. What is published has been hashed already, so this hands it
the digests; the classes for that are the library's inner ones, and so its version is pinned closely.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from bot import keys, sandbox
from bot.errors import KeyUnusable
from bot.settings import Settings

# What is in a downloaded folder and is not signed. Whoever verifies takes it from the signature: the file itself, what
# git keeps, and the notes that `hf download --local-dir` leaves.
IGNORED = ("model.sig", ".git", ".gitattributes", ".github", ".gitignore", ".cache/huggingface")


class Signer:
    """Signs with the private key in a file. The key is read when something is signed and is not kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fingerprint = keys.fingerprint(keys.public_half(path))

    def check(self) -> None:
        """Make sure that what is signed from now on is signed with the key that this process began with.

        Raises:
            KeyUnusable: the file holds another key, or cannot be read any more.
        """
        if keys.fingerprint(keys.public_half(self._path)) != self.fingerprint:
            raise KeyUnusable(f"The key in {self._path} was replaced by another one.", "Start phimill again.")

    def sign(self, name: str, digests: Mapping[str, str]) -> bytes:
        """The signature over these files, by path: their SHA-256 digests. `name` is informative.

        Raises:
            KeyUnusable: see `check`.
        """
        self.check()
        # Imported here, as it costs half a second and 20 MB: most mills do not sign.
        from model_signing._hashing.hashing import Digest
        from model_signing._signing import sign_ec_key, sign_sigstore_pb
        from model_signing._signing.signing import Payload
        from model_signing.manifest import Manifest, SerializationType

        how = SerializationType.from_args(
            {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": IGNORED}
        )
        items = [how.new_item(path, Digest("sha256", bytes.fromhex(digest))) for path, digest in digests.items()]
        signature = sign_ec_key.Signer(self._path).sign(Payload(Manifest(name, items, how)))
        return cast(sign_sigstore_pb.Signature, signature).bundle.to_json().encode()


def signer(settings: Settings) -> Signer | None:
    """What signs as these settings say, if anything does.

    Raises:
        KeyUnusable: there is a key, and it cannot be used.
    """
    if settings.signing_key is None:
        return None
    path = settings.signing_key.absolute()
    for folder in (*sandbox.SYSTEM, settings.toolchains, settings.home / "work"):
        if path.resolve().is_relative_to(Path(folder).resolve()):
            raise KeyUnusable(f"The signing key lies in {folder}, where converters can read.", "Move it elsewhere.")
    return Signer(path)
