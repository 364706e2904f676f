"""Expiring signatures: upload URLs that work without a token, and the Xet access token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bot.localhub.errors import ForbiddenError, UnauthorizedError


class Signer:
    """Signs with a key kept in a file, so that what was signed outlives a restart."""

    def __init__(self, key_file: Path) -> None:
        self._key = _load_key(key_file)

    def sign_url(self, url: str, path: str, ttl: int, **values: str | int) -> str:
        """Return `url` with `values`, an expiry in `ttl` seconds, and a signature over `path` and them."""
        query = {name: str(value) for name, value in values.items()} | {"expires": str(int(time.time()) + ttl)}
        return f"{url}?{urlencode(query | {'signature': self._digest('url', path, query)})}"

    def check_url(self, path: str, query: Mapping[str, str]) -> None:
        """Raise `ForbiddenError` unless `query` was signed for `path` and has not expired."""
        signed = {name: value for name, value in query.items() if name != "signature"}
        genuine = hmac.compare_digest(self._digest("url", path, signed).encode(), query.get("signature", "").encode())
        if not genuine or int(signed.get("expires", "0")) < time.time():
            raise ForbiddenError("This upload URL is not valid or has expired. Ask for a new one.")

    def issue(self, claims: Mapping[str, Any], expires: int) -> str:
        """Return a token that carries `claims` until the Unix time `expires`."""
        payload = base64.urlsafe_b64encode(json.dumps({**claims, "exp": expires}).encode()).decode()
        return f"{payload}.{self._digest('token', payload, {})}"

    def read(self, token: str) -> dict[str, Any]:
        """Return the claims of a token from `issue`. Raises `UnauthorizedError` if it is false or old."""
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(self._digest("token", payload, {}).encode(), signature.encode()):
            raise UnauthorizedError("Invalid access token.")
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload))
        if claims["exp"] < time.time():
            raise UnauthorizedError("The access token has expired.")
        return claims

    def _digest(self, purpose: str, subject: str, values: Mapping[str, str]) -> str:
        message = json.dumps([purpose, subject, sorted(values.items())]).encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def _load_key(path: Path) -> bytes:
    if not path.exists():
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    return path.read_bytes()
