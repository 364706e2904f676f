"""The Hub as an OpenID provider: the way that a browser and an app go, and what an app's token may do."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from joserfc import jwt
from joserfc.jwk import KeySet

from bot.localhub import RunningHub
from bot.localhub.errors import BadRequestError

CALLBACK = "http://127.0.0.1:7860/login/callback"
SCOPE = "openid profile contribute-repos"
VERIFIER = "a-verifier-that-is-long-enough-for-anybody-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def app(hub: RunningHub) -> tuple[str, str]:
    scopes = ["contribute-repos", "gated-repos", "read-repos"]
    return hub.config.add_app("Phimill <Space>", [CALLBACK], scopes, seconds=3600)


@pytest.fixture
def browser(hub: RunningHub) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub.url) as client:
        yield client


def asked(client: str, **more: str) -> dict[str, str]:
    return {
        "client_id": client, "redirect_uri": f"{CALLBACK}?_target_url=%2F", "response_type": "code",
        "scope": SCOPE, "state": "st&te", "nonce": "once", **more,
    }  # fmt: skip


def approve(hub: RunningHub, browser: httpx.Client, client: str, user: str = "miller", **more: str) -> httpx.Response:
    form = {**asked(client, **more), "user": user, "token": hub.token(user), "decision": "approve"}
    return browser.post("/oauth/authorize", data=form)


def landed(answer: httpx.Response) -> dict[str, str]:
    """What the app is told in the address that the browser is sent to."""
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"{CALLBACK}?_target_url=%2F&")
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def redeemed(browser: httpx.Client, app: tuple[str, str], code: str, **more: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked("")["redirect_uri"], **more}
    return browser.post("/oauth/token", data=form, auth=app)


@pytest.fixture
def signed_in(hub: RunningHub, browser: httpx.Client, app: tuple[str, str]) -> Callable[..., HfApi]:
    """The client that an app has once a user has approved these scopes."""

    def sign_in(user: str = "miller", scope: str = SCOPE) -> HfApi:
        code = landed(approve(hub, browser, app[0], user, scope=scope))["code"]
        return HfApi(endpoint=hub.url, token=redeemed(browser, app, code).json()["access_token"])

    return sign_in


def test_everything_is_where_the_discovery_says(hub: RunningHub, browser: httpx.Client) -> None:
    said = browser.get("/.well-known/openid-configuration").json()
    assert said["issuer"] == hub.url
    assert {said["authorization_endpoint"], said["token_endpoint"]} == {
        f"{hub.url}/oauth/authorize", f"{hub.url}/oauth/token",
    }  # fmt: skip


def test_the_page_says_who_asks_for_what_and_holds_no_markup_of_theirs(
    browser: httpx.Client, app: tuple[str, str]
) -> None:
    page = browser.get("/oauth/authorize", params=asked(app[0], state='"><script>'))
    assert page.status_code == 200
    assert "Phimill &lt;Space&gt;" in page.text
    assert "Create repositories, and change the ones that it created" in page.text
    assert "<script>" not in page.text
    policy = page.headers["content-security-policy"]
    assert "form-action 'self' http://127.0.0.1:7860;" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("pkce", [True, False])
def test_a_code_is_worth_a_token_and_a_signed_word_of_who_it_is(
    hub: RunningHub, browser: httpx.Client, app: tuple[str, str], pkce: bool
) -> None:
    more = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"} if pkce else {}
    told = landed(approve(hub, browser, app[0], **more))
    assert told["state"] == "st&te"
    answer = redeemed(browser, app, told["code"], **({"code_verifier": VERIFIER} if pkce else {}))
    given = answer.json()
    assert (given["token_type"], given["expires_in"], given["scope"]) == ("bearer", 3600, SCOPE)
    keys = KeySet.import_key_set(browser.get("/oauth/jwks").json())
    claims = jwt.decode(given["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (hub.url, app[0], "once")
    assert claims["preferred_username"] == "miller"
    who = browser.get("/oauth/userinfo", headers={"Authorization": f"Bearer {given['access_token']}"}).json()
    assert who["preferred_username"] == "miller"
    me = HfApi(endpoint=hub.url, token=given["access_token"]).whoami()
    assert (me["name"], me["auth"]["type"]) == ("miller", "oauth")


def test_a_code_is_good_once_and_only_for_who_it_was_made_for(
    hub: RunningHub, browser: httpx.Client, app: tuple[str, str]
) -> None:
    pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}

    def code() -> str:
        return landed(approve(hub, browser, app[0], **pkce))["code"]

    other = hub.config.add_app("other", [CALLBACK], [])
    good = {"code_verifier": VERIFIER}
    assert redeemed(browser, app, code()).json() == {"error": "invalid_grant"}, "without the verifier"
    assert redeemed(browser, app, code(), code_verifier="guess").json() == {"error": "invalid_grant"}
    assert redeemed(browser, other, code(), **good).json() == {"error": "invalid_grant"}
    assert redeemed(browser, app, code(), **good, redirect_uri=CALLBACK).json() == {"error": "invalid_grant"}
    assert redeemed(browser, (app[0], "guess"), code(), **good).status_code == 401
    once = code()
    assert redeemed(browser, app, once, **good).status_code == 200
    assert redeemed(browser, app, once, **good).json() == {"error": "invalid_grant"}


def test_nobody_is_sent_to_an_address_that_is_not_the_app_s(browser: httpx.Client, app: tuple[str, str]) -> None:
    for redirect in ("http://evil.example/login/callback", f"{CALLBACK}.evil.example", "javascript:alert(1)", ""):
        for answer in (
            browser.get("/oauth/authorize", params=asked(app[0], redirect_uri=redirect)),
            browser.post("/oauth/authorize", data=asked(app[0], redirect_uri=redirect)),
        ):
            assert (answer.status_code, answer.headers.get("location")) == (400, None)
    assert browser.get("/oauth/authorize", params=asked("nobody")).status_code == 400


def test_the_app_is_told_why_not(hub: RunningHub, browser: httpx.Client, app: tuple[str, str]) -> None:
    said = landed(browser.get("/oauth/authorize", params=asked(app[0], scope="openid manage-repos")))
    assert said["error"] == "invalid_scope"
    assert landed(browser.get("/oauth/authorize", params=asked(app[0], response_type="token")))["error"]
    assert landed(browser.post("/oauth/authorize", data={**asked(app[0]), "decision": "deny"}))["error"] == (
        "access_denied"
    )


def test_a_stranger_approves_nothing(hub: RunningHub, browser: httpx.Client, app: tuple[str, str]) -> None:
    for user, token in (("miller", "guess"), ("miller", hub.token("eve")), ("nobody", hub.token("eve")), ("", "")):
        form = {**asked(app[0]), "user": user, "token": token, "decision": "approve"}
        answer = browser.post("/oauth/authorize", data=form)
        assert answer.status_code == 403
        assert "This is not an account of this Hub" in answer.text
        assert not token or token not in answer.text


def test_an_app_may_change_what_it_created_and_nothing_else(
    api: HfApi, repo: str, new_id: Callable[[], str], signed_in: Callable[..., HfApi]
) -> None:
    theirs, mine = signed_in(), new_id()
    theirs.create_repo(mine, private=True)
    theirs.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=mine)
    theirs.create_tag(mine, tag="v1.0")
    signed_in().upload_file(path_or_fileobj=b"y", path_in_repo="y.txt", repo_id=mine)  # a later token of the same app
    assert theirs.repo_exists(mine)
    for forbidden in (
        lambda: theirs.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo),
        lambda: theirs.delete_repo(repo),
        lambda: theirs.update_repo_settings(repo, private=True),
        lambda: theirs.move_repo(repo, new_id()),
        lambda: theirs.auth_check(repo, write=True),
        lambda: theirs.create_collection("Mine", namespace="miller"),
        lambda: theirs.create_webhook(url="http://127.0.0.1:1/", watched=[{"type": "user", "name": "miller"}]),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            forbidden()
        assert refused.value.response.status_code == 403
    assert api.file_exists(mine, "y.txt")


def test_an_app_sees_no_private_repo_that_it_did_not_create(
    api: HfApi, new_id: Callable[[], str], signed_in: Callable[..., HfApi]
) -> None:
    private = new_id()
    api.create_repo(private, private=True)
    with pytest.raises(RepositoryNotFoundError):
        signed_in().model_info(private)
    assert private not in {m.id for m in signed_in().list_models(author="phimill")}
    assert signed_in(scope="openid read-repos").model_info(private).private


def test_gated_repos_are_read_with_their_own_scope(api: HfApi, repo: str, signed_in: Callable[..., HfApi]) -> None:
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=repo)
    api.update_repo_settings(repo, gated="auto")
    with pytest.raises(GatedRepoError):
        signed_in().auth_check(repo)
    signed_in(scope=f"{SCOPE} gated-repos").auth_check(repo)


def test_a_token_without_the_scope_creates_nothing(new_id: Callable[[], str], signed_in: Callable[..., HfApi]) -> None:
    with pytest.raises(HfHubHTTPError, match="role 'read'"):
        signed_in(scope="openid profile").create_repo(new_id())
    with pytest.raises(HfHubHTTPError):
        signed_in("eve").create_repo(new_id())  # who may not write in phimill


def test_a_token_ends(hub: RunningHub, browser: httpx.Client, repo: str) -> None:
    short = hub.config.add_app("short", [CALLBACK], [], seconds=0)
    code = landed(approve(hub, browser, short[0], scope="openid"))["code"]
    token = redeemed(browser, short, code).json()["access_token"]
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.url, token=token).whoami()
    assert refused.value.response.status_code == 401


def test_the_hub_keeps_no_secret(hub: RunningHub, browser: httpx.Client, app: tuple[str, str]) -> None:
    code = landed(approve(hub, browser, app[0]))["code"]
    token = redeemed(browser, app, code).json()["access_token"]
    for path in hub.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in (app[1], code, token) if secret.encode() in data], path


def test_an_app_that_is_added_again_keeps_its_id_and_gets_a_new_secret(hub: RunningHub) -> None:
    first, second = (hub.config.add_app("again", [CALLBACK], ["contribute-repos"]) for _ in range(2))
    assert first[0] == second[0]
    assert first[1] != second[1]
    with pytest.raises(BadRequestError, match="no address"):
        hub.config.add_app("again", ["javascript:alert(1)"], [])
    with pytest.raises(BadRequestError, match="No such scope"):
        hub.config.add_app("again", [CALLBACK], ["everything"])
