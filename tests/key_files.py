"""Key files as people make them: with openssl."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyFiles:
    """A key's two halves, in two files."""

    private: Path
    public: Path

    @property
    def fingerprint(self) -> str:
        """What `sha256sum` prints of the public one."""
        return hashlib.sha256(self.public.read_bytes()).hexdigest()


def make(folder: Path, name: str = "signing", curve: str = "prime256v1") -> KeyFiles:
    """A new key, by the commands that docs/operations.md gives."""
    made = KeyFiles(folder / f"{name}.pem", folder / f"{name}.pub")
    openssl("ecparam", "-name", curve, "-genkey", "-noout", "-out", made.private)
    openssl("ec", "-in", made.private, "-pubout", "-out", made.public)
    return made


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
