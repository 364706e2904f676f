"""Every way a request can fail, as the Hub's clients expect to be told.

    HubError
    ├── BadRequestError 400
    ├── UnauthorizedError 401
    │   └── InvalidTokenError
    ├── ForbiddenError 403
    │   └── GatedRepoError
    ├── NotFoundError 404
    │   ├── RepoNotFoundError
    │   ├── RevisionNotFoundError
    │   └── EntryNotFoundError
    ├── ConflictError 409
    ├── PreconditionFailedError 412
    ├── TooLargeError 413
    └── RangeNotSatisfiableError 416

`X-Error-Code` and `X-Error-Message` are what `huggingface_hub` turns into its exception classes. Nothing
permanent may answer 5xx: the client would retry it for half a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response


class HubError(Exception):
    """A request that failed, with the sentence to show to the person who made it."""

    status = 400
    code: str | None = None

    def __init__(
        self, message: str, *, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.body = dict(body or {})
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the error as JSON plus the headers that `huggingface_hub` reads."""
        headers = {**self.headers, "X-Error-Message": _header_safe(self.message)}
        if self.code:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message, **self.body}, self.status, headers)


class BadRequestError(HubError):
    status = 400


class UnauthorizedError(HubError):
    status = 401


class InvalidTokenError(UnauthorizedError):
    def __init__(self) -> None:
        # The client compares this exact sentence to tell a wrong token from a hidden repository.
        super().__init__("Invalid credentials in Authorization header")


class ForbiddenError(HubError):
    status = 403


class GatedRepoError(ForbiddenError):
    code = "GatedRepo"


class NotFoundError(HubError):
    status = 404


class RepoNotFoundError(NotFoundError):
    code = "RepoNotFound"

    def __init__(self, *, anonymous: bool) -> None:
        # An anonymous caller gets 401 for a missing and for a private repository alike, so that neither
        # status tells which of the two it is.
        super().__init__("Invalid username or password." if anonymous else "Repository not found")
        self.status = 401 if anonymous else 404


class RevisionNotFoundError(NotFoundError):
    code = "RevisionNotFound"

    def __init__(self, revision: str) -> None:
        super().__init__(f"Invalid rev id: {revision}")


class EntryNotFoundError(NotFoundError):
    code = "EntryNotFound"


class ConflictError(HubError):
    status = 409


class PreconditionFailedError(HubError):
    status = 412


class TooLargeError(HubError):
    status = 413


class RangeNotSatisfiableError(HubError):
    status = 416


def _header_safe(text: str) -> str:
    """Return `text` as one printable ASCII line: a header must not carry what a request smuggled in."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:500]
