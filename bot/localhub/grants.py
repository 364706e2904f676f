"""What people have allowed OAuth apps: codes, tokens, and the signed word of who signed in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from bot.localhub.config import hash_token
from bot.localhub.database import Database

CODE_SECONDS = 60.0


@dataclass(frozen=True)
class Grant:
    """What one access token of an app may do. `made`: ids of the repositories that the app created."""

    user: str
    client: str
    scopes: frozenset[str]
    expires: float
    made: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Consent:
    """What somebody agreed to, on its way to the app as a code."""

    client: str
    user: str
    scopes: str
    redirect: str
    nonce: str | None
    challenge: str | None


class Grants:
    """Codes and access tokens. Both are random and long, and kept as SHA-256 only."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def code(self, consent: Consent) -> str:
        """Return a code that is worth one token within a minute."""
        code, given = secrets.token_urlsafe(32), consent
        values = (given.client, given.user, given.scopes, given.redirect, given.nonce, given.challenge)
        with self._db.write() as connection:
            connection.execute("DELETE FROM oauth_codes WHERE expires < ?", (time.time(),))
            connection.execute("DELETE FROM oauth_tokens WHERE expires < ?", (time.time(),))
            connection.execute(
                "INSERT INTO oauth_codes (digest, client, user, scopes, redirect, nonce, challenge, expires)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (hash_token(code), *values, time.time() + CODE_SECONDS),
            )
        return code

    def redeem(self, code: str, client: str, redirect: str, verifier: str | None) -> Consent | None:
        """Return what a code stands for, once; None unless everything about it is right."""
        with self._db.write() as connection:
            row = connection.execute("SELECT * FROM oauth_codes WHERE digest = ?", (hash_token(code),)).fetchone()
            connection.execute("DELETE FROM oauth_codes WHERE digest = ?", (hash_token(code),))
        if row is None or row["expires"] < time.time() or (row["client"], row["redirect"]) != (client, redirect):
            return None
        if row["challenge"] and not hmac.compare_digest(row["challenge"].encode(), _s256(verifier or "").encode()):
            return None
        return Consent(
            row["client"], row["user"], row["scopes"], row["redirect"], row["nonce"], row["challenge"]
        )  # fmt: skip

    def token(self, consent: Consent, seconds: int) -> str:
        """Return a new access token, whose text is not kept."""
        token = f"hf_oauth_{secrets.token_urlsafe(32)}"
        values = (hash_token(token), consent.client, consent.user, consent.scopes, time.time() + seconds)
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO oauth_tokens (digest, client, user, scopes, expires) VALUES (?, ?, ?, ?, ?)", values
            )
        return token

    def find(self, digest: str) -> Grant | None:
        """Return what the token of that SHA-256 may do, if it is one of ours and not over."""
        with self._db.read() as connection:
            row = connection.execute("SELECT * FROM oauth_tokens WHERE digest = ?", (digest,)).fetchone()
            if row is None or row["expires"] < time.time():
                return None
            made = connection.execute("SELECT repo_id FROM app_repos WHERE client = ?", (row["client"],)).fetchall()
        scopes = frozenset(row["scopes"].split())
        return Grant(row["user"], row["client"], scopes, row["expires"], frozenset(one["repo_id"] for one in made))


def remember(connection: sqlite3.Connection, repo_id: str, grant: Grant) -> None:
    """Note that an app created a repository."""
    connection.execute("INSERT INTO app_repos (repo_id, client) VALUES (?, ?)", (repo_id, grant.client))


def _s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


class IdTokens:
    """The signed word of who signed in (OpenID Connect), with a key that outlives a restart."""

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._loaded: RSAKey | None = None
        self._lock = threading.Lock()

    @property
    def _key(self) -> RSAKey:
        with self._lock:
            if self._loaded is None:
                if not self._file.exists():
                    self._write(RSAKey.generate_key(2048).as_pem(private=True))
                pem = self._file.read_bytes()
                self._loaded = RSAKey.import_key(pem, {"kid": hashlib.sha256(pem).hexdigest()[:16]})
            return self._loaded

    def _write(self, pem: bytes) -> None:
        draft = self._file.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        os.replace(draft, self._file)

    def public(self) -> dict[str, Any]:
        """Return the public key, as a JSON Web Key Set."""
        return dict(KeySet([self._key]).as_dict(private=False))

    def issue(self, claims: Mapping[str, Any]) -> str:
        """Return signed claims."""
        key = self._key
        return jwt.encode({"alg": "RS256", "kid": key.kid}, dict(claims), key)
