"""Who is in front of the page or behind a call of the API."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from bot.builds import BuildRequest


@dataclass(frozen=True)
class Visitor:
    """One person, for as long as one request lasts.

    `name` is their account on the Hub, None for somebody who has not signed in. `token` is their own and serves what
    they ask for only; it `expires` at that Unix time, None if nobody knows. The `operator` is whoever runs this
    phimill, on its own machine: the mill's own token serves them. `address` is where the request came from, `language`
    what their browser asks for.
    """

    name: str | None = None
    token: SecretStr | None = None
    operator: bool = False
    address: str = ""
    language: str = "en"
    expires: float | None = None

    def sees(self, request: BuildRequest) -> bool:
        """Whether they may know of a build: what is private is its asker's own business, and the operator's."""
        return self.operator or not request.private or self.owns(request)

    def owns(self, request: BuildRequest) -> bool:
        """Whether a build is theirs."""
        return self.name is not None and self.name == request.asker


STRANGER = Visitor()
OPERATOR = Visitor(operator=True)
