"""Signing in to other pages with an account of this Hub: OAuth 2 (authorization code) and OpenID Connect."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from bot.localhub.auth import Identity
from bot.localhub.calls import Call, route
from bot.localhub.config import SCOPES, App, hash_token
from bot.localhub.errors import BadRequestError
from bot.localhub.grants import Consent
from bot.localhub.routes.pages import SECURITY_HEADERS, filled

ASKED = ("client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge",
         "code_challenge_method")  # fmt: skip


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [
        route("/.well-known/openid-configuration", configuration),
        route("/oauth/authorize", ask),
        route("/oauth/authorize", answer, "POST"),
        route("/oauth/token", token, "POST"),
        route("/oauth/userinfo", userinfo),
        route("/oauth/jwks", jwks),
    ]


def configuration(call: Call) -> dict[str, Any]:
    """Say where everything is (OpenID Connect Discovery)."""
    base = call.base_url
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
        "jwks_uri": f"{base}/oauth/jwks",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
    }


def ask(call: Call) -> Response:
    """Show what an app asks for, to be approved or not."""
    asked = {name: call.query.get(name, "") for name in ASKED}
    app = _app(call, asked)
    return _refused(app, asked) or _form(app, asked)


def answer(call: Call) -> Response:
    """Take the decision. Whoever approves proves with a token of theirs who they are."""
    given = dict(parse_qsl(call.body.decode("utf-8", "replace")))
    asked = {name: given.get(name, "") for name in ASKED}
    app = _app(call, asked)
    if refused := _refused(app, asked):
        return refused
    if given.get("decision") != "approve":
        return _back(asked, error="access_denied", error_description="The sign-in was not approved.")
    accounts, user = call.hub.config.accounts, given.get("user", "").strip()
    known = accounts.tokens.get(hash_token(given.get("token", "").strip()))
    if known is None or known[0] != user or user not in accounts.users:
        return _form(app, asked, user=user, problem="This is not an account of this Hub with a token of its own.")
    consent = Consent(
        asked["client_id"], user, asked["scope"], asked["redirect_uri"], asked["nonce"] or None,
        asked["code_challenge"] or None,
    )  # fmt: skip
    return _back(asked, code=call.hub.grants.code(consent))


def token(call: Call) -> Response:
    """Exchange a code for an access token and the word of who signed in."""
    given = dict(parse_qsl(call.body.decode("utf-8", "replace")))
    client, secret = _client(call, given)
    app = call.hub.config.accounts.app(client)
    if app is None or not hmac.compare_digest(hash_token(secret).encode(), app.secret.encode()):
        return _problem("invalid_client", 401)
    if given.get("grant_type") != "authorization_code":
        return _problem("unsupported_grant_type")
    consent = call.hub.grants.redeem(
        given.get("code", ""), client, given.get("redirect_uri", ""), given.get("code_verifier")
    )
    if consent is None:
        return _problem("invalid_grant")
    answer = {
        "access_token": call.hub.grants.token(consent, app.seconds),
        "token_type": "bearer",
        "expires_in": app.seconds,
        "scope": consent.scopes,
    }
    if "openid" in consent.scopes.split():
        now = int(time.time())
        claims = {
            "iss": call.base_url, "aud": client, "iat": now, "exp": now + app.seconds, "auth_time": now,
            **_person(call, call.hub.config.accounts.users, consent.user),
        }  # fmt: skip
        answer["id_token"] = call.hub.id_tokens.issue(claims | ({"nonce": consent.nonce} if consent.nonce else {}))
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def userinfo(call: Call) -> dict[str, Any]:
    """Describe whoever an access token belongs to."""
    identity: Identity = call.identity
    user = identity.require_user()
    identity.require_scope("openid")
    return _person(call, identity.accounts.users, user)


def jwks(call: Call) -> dict[str, Any]:
    """Publish the key that the Hub's word is signed with."""
    return call.hub.id_tokens.public()


def _person(call: Call, users: dict[str, str], user: str) -> dict[str, Any]:
    return {
        "sub": user,
        "name": users.get(user, user),
        "preferred_username": user,
        "profile": f"{call.base_url}/{user}",
        "picture": f"{call.base_url}/avatar.svg",
    }


def _app(call: Call, asked: dict[str, str]) -> App:
    """Return the app that asks. Nobody is sent to an address that is not one of its own.

    Raises:
        BadRequestError: no such app, or another address.
    """
    app = call.hub.config.accounts.app(asked["client_id"])
    if app is None:
        raise BadRequestError("No app with this client_id is registered here.")
    if not app.redirects_to(asked["redirect_uri"]):
        raise BadRequestError("This redirect_uri is not registered for the app.")
    return app


def _refused(app: App, asked: dict[str, str]) -> Response | None:
    if asked["response_type"] != "code":
        return _back(asked, error="unsupported_response_type")
    if not set(asked["scope"].split()) <= set(app.scopes):
        return _back(asked, error="invalid_scope", error_description="The app is not registered for this scope.")
    if asked["code_challenge"] and asked["code_challenge_method"] != "S256":
        return _back(asked, error="invalid_request", error_description="PKCE is done with S256 here.")
    return None


def _back(asked: dict[str, str], **values: str) -> Response:
    """Send the browser back to the app."""
    url, state = asked["redirect_uri"], asked["state"]
    query = urlencode(values | ({"state": state} if state else {}))
    separator = "&" if urlsplit(url).query else "?"
    # 303: what was a form becomes a plain visit.
    return RedirectResponse(f"{url}{separator}{query}", 303, {"Referrer-Policy": "no-referrer"})


def _form(app: App, asked: dict[str, str], *, user: str = "", problem: str = "") -> Response:
    target = urlsplit(asked["redirect_uri"])
    text = filled(
        "consent.html", app=app, asked=asked, user=user, problem=problem, host=target.netloc,
        scopes=[SCOPES[name] for name in dict.fromkeys(asked["scope"].split())],
    )  # fmt: skip
    # A browser holds a form to where it leads, redirects included.
    own = f"form-action 'self' {target.scheme}://{target.netloc}"
    policy = SECURITY_HEADERS["Content-Security-Policy"].replace("form-action 'self'", own)
    headers = {**SECURITY_HEADERS, "Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return HTMLResponse(text, 403 if problem else 200, headers)


def _client(call: Call, given: dict[str, str]) -> tuple[str, str]:
    """The app's id and secret, from the Authorization header or from the form."""
    scheme, _, encoded = call.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no text
            return "", ""
        return unquote_plus(client), unquote_plus(secret)
    return given.get("client_id", ""), given.get("client_secret", "")


def _problem(code: str, status: int = 400) -> Response:
    return JSONResponse({"error": code}, status, {"Cache-Control": "no-store"})
