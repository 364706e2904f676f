"""Who sent a request: the operator, somebody who signed in, a program with a token, or a stranger."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from bot.accounts import accounts
from bot.errors import AccessDenied, HubError
from bot.settings import Settings
from bot.ui.language import preferred
from bot.visitor import Visitor

if TYPE_CHECKING:
    import gradio as gr

# What a Space with `hf_oauth: true` is given; Gradio reads the same.
OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
LONGEST_TOKEN = 2048


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def can_sign_in() -> bool:
    """Whether people can sign in to this page. Outside of a Space Gradio would only pretend."""
    return os.environ.get("SYSTEM") == "spaces" and all(name in os.environ for name in ("SPACE_ID", *OAUTH))


def people_may_build(settings: Settings) -> bool:
    """Whether whoever opens the page is taken for its operator, whom the bot's token serves.

    It must not serve strangers: not on a page that they can open, and not where everybody says who they are. A Space
    is always such a page, whatever address it listens on.
    """
    return is_loopback(settings.host) and "SPACE_ID" not in os.environ and not can_sign_in()


def visitor(settings: Settings, request: gr.Request) -> Visitor:
    """Who sent this request of the page or of the API.

    Raises:
        AccessDenied: it carries a token that the Hub does not know.
        HubUnreachable: nobody can say whose token it is.
    """
    headers = request.headers
    known: dict[str, Any] = {
        "address": _address(settings, request),
        "language": preferred(headers.get("accept-language", "")),
    }
    if people_may_build(settings):
        return Visitor(operator=True, **known)
    if token := _bearer(headers):
        return Visitor(**_owner(settings, token), **known)
    return Visitor(**_signed_in(request), **known)


def _owner(settings: Settings, token: SecretStr) -> dict[str, Any]:
    try:
        account = accounts(settings.endpoint).of(token)
    except HubError as error:
        raise type(error)("The Hub could not be asked whose token this is.", "Try again later.") from error
    if account is None:
        raise AccessDenied("The Hub does not know this token.", "Use another one, or none.")
    return {"name": account.name, "token": token}


def _bearer(headers: Mapping[str, str]) -> SecretStr | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    usable = scheme.lower() == "bearer" and token.isascii() and token.isprintable() and len(token) <= LONGEST_TOKEN
    return SecretStr(token) if usable and token else None


def _signed_in(request: gr.Request) -> dict[str, Any]:
    """The account and the token of the session that Gradio's sign-in left, if it is one of ours and not over."""
    scope = getattr(request.request, "scope", None)
    info = scope.get("session", {}).get("oauth_info") if isinstance(scope, dict) else None
    if not isinstance(info, dict) or not same_site(request.headers):
        return {}
    name, token = info.get("userinfo", {}).get("preferred_username"), info.get("access_token")
    expires = info.get("expires_at") or 0
    if not name or not token or expires < time.time():
        return {}
    return {"name": str(name), "token": SecretStr(str(token)), "expires": float(expires)}


def same_site(headers: Mapping[str, str]) -> bool:
    """Whether a request came from our own page: a Space lives in a frame, so its cookie is sent from any site."""
    origin = headers.get("origin")
    if origin is None:
        # A browser names the origin of every request that changes something; without one it must say where it is from.
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    # Not X-Forwarded-Host: a foreign page can send that, and cannot send another Host.
    ours = {headers.get("host", "").lower(), *os.environ.get("SPACE_HOST", "").lower().replace(" ", "").split(",")}
    return urlsplit(origin).netloc.lower() in ours - {""}


def _address(settings: Settings, request: gr.Request) -> str:
    """Where a request came from, as the outermost of our own proxies saw it."""
    hops = settings.proxies or int("SPACE_ID" in os.environ)
    header = str(request.headers.get("x-forwarded-for", ""))
    passed = [part.strip() for part in header.split(",") if part.strip()]
    if hops and len(passed) >= hops:
        return passed[-hops]
    return str(request.client.host) if request.client else ""
