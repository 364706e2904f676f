"""Holds the signature of a published repo against its files. Reads nothing but the signature and the key."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bot import keys
from bot.agreement import HOUSEKEEPING, Finding, differs
from bot.models import ArtifactFile
from bot.publication import SIGNATURE_PATH


class Verifier:
    """Holds signatures against the public key in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fingerprint = keys.fingerprint(keys.public_key(path))

    def findings(self, signature: bytes | None, held: Mapping[str, ArtifactFile]) -> Iterator[Finding]:
        """Where the files are not those that the key has signed: all of them, and no others."""
        if signature is None:
            yield Finding(file=SIGNATURE_PATH, what="there is none: the repo is not signed")
            return
        named = signed_by(signature)
        if named != self.fingerprint:
            yield differs(SIGNATURE_PATH, "fingerprint of the key", self.fingerprint, named or "no key")
            return
        signed = self._signed(signature)
        if signed is None:
            yield Finding(file=SIGNATURE_PATH, what="it is not the signature of this key: it was changed or made up")
            return
        there = {path: file.sha256 for path, file in held.items() if path not in {SIGNATURE_PATH, *HOUSEKEEPING}}
        for path in sorted({*signed, *there}):
            if path not in there:
                yield Finding(file=path, what=f"it is missing, and {SIGNATURE_PATH} covers it")
            elif path not in signed:
                yield Finding(file=path, what=f"{SIGNATURE_PATH} does not cover it")
            elif signed[path] != there[path]:
                yield differs(path, f"SHA-256 in {SIGNATURE_PATH}", signed[path], there[path])

    def _signed(self, signature: bytes) -> dict[str, str] | None:
        """The SHA-256 of each file that the key has signed, by path; None if it has not made this signature."""
        # Imported here, as it costs half a second and 20 MB.
        from model_signing._signing import sign_ec_key, sign_sigstore_pb

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / SIGNATURE_PATH
            file.write_bytes(signature)
            try:
                manifest = sign_ec_key.Verifier(self._path).verify(sign_sigstore_pb.Signature.read(file))
            except Exception:
                # Somebody else's bytes, in a parser that promises no exception: however it fails, nothing is proven.
                return None
        found = manifest.resource_descriptors()
        return {one.identifier: one.digest.digest_hex for one in found if one.digest.algorithm == "sha256"}


def signed_by(signature: bytes) -> str | None:
    """The fingerprint of the key that a signature says it was made with. Anybody can write that."""
    try:
        said: Any = json.loads(signature)
    except (ValueError, RecursionError):
        return None
    for name in ("verificationMaterial", "publicKey", "hint"):
        said = said.get(name) if isinstance(said, dict) else None
    return said if isinstance(said, str) else None
