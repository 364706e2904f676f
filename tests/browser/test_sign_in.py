"""Signing in, in a real browser: Gradio's own OAuth code against the embedded Hub. Nothing of it is pretended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import phi_repos
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect
from ports import free_port

from bot.localhub import RunningHub

HERE = Path(__file__).parent
PATIENCE = 400.0  # seconds; only a hang takes so long, however busy the machine
SOURCE = "microsoft/Phi-3.5-mini-instruct"


@dataclass(frozen=True)
class World:
    hub: RunningHub
    page: str
    form: str
    home: Path


@contextmanager
def _served(ports: tuple[int, ...], environment: dict[str, str]) -> Iterator[list[str]]:
    """The page as a Space is started: told by its environment where people sign in."""
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])
    command = [sys.executable, str(HERE / "sign_in_server.py"), *map(str, ports)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, **environment}) as process:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[-1])) == 0:
                    break
            time.sleep(0.1)
        yield [f"http://127.0.0.1:{port}" for port in ports]
        process.terminate()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("sign-in")
    with RunningHub(root / "hub") as hub:
        for name in ("ada", "eve"):
            hub.config.add_user(name)
        hub.config.add_org("microsoft", {"miller": "admin"})
        hub.config.add_org("lovelace", {"ada": "write"})
        phi_repos.upload(hub.url, hub.token("miller"), SOURCE, phi_repos.write("phi35_mini", root / "phi"))
        ports = (free_port(), free_port())
        redirects = [f"http://127.0.0.1:{port}/login/callback" for port in ports]
        client, secret = hub.config.add_app("phimill", redirects, ["contribute-repos"])
        environment = {
            "SYSTEM": "spaces", "SPACE_ID": "phimill/phimill", "HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hf"),
            "PHIMILL_HOME": str(root / "home"), "OPENID_PROVIDER_URL": hub.url, "OAUTH_CLIENT_ID": client,
            "OAUTH_CLIENT_SECRET": secret, "OAUTH_SCOPES": "openid profile contribute-repos",
        }  # fmt: skip
        with _served(ports, environment) as (page, form):
            yield World(hub, page, form, root / "home")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Somebody's browser, with cookies of its own."""
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    yield context
    context.close()


def sign_in(context: BrowserContext, world: World, address: str, user: str = "ada") -> Page:
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    expect(page.get_by_role("heading", name="Sign in to phimill")).to_be_visible()
    expect(page.get_by_text("Create repositories, and change the ones that it created")).to_be_visible()
    page.get_by_label("Account").fill(user)
    page.get_by_label("One of its tokens").fill(world.hub.token(user))
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text(f"Signed in as {user}.")).to_be_visible()
    return page


def test_somebody_signs_in_is_still_there_after_a_reload_and_signs_out(context: BrowserContext, world: World) -> None:
    page = sign_in(context, world, world.page)
    assert page.url.startswith(world.page)
    page.reload()
    expect(page.get_by_text("Signed in as ada.")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in with Hugging Face")).to_be_visible()
    expect(page.get_by_text("Signed in as ada.")).to_be_hidden()


def test_the_session_is_kept_from_scripts(context: BrowserContext, world: World) -> None:
    page = sign_in(context, world, world.page)
    assert "session" not in page.evaluate("document.cookie")
    [cookie] = [cookie for cookie in context.cookies() if cookie["name"] == "session"]
    assert (cookie["httpOnly"], cookie["secure"]) == (True, True)


def test_the_door_speaks_the_visitor_s_language(browser: Browser, world: World) -> None:
    context = browser.new_context(locale="nl-NL")
    page = context.new_page()
    page.goto(world.page)
    page.get_by_role("button", name="Aanmelden met Hugging Face").click()
    expect(page.get_by_role("heading", name="Sign in to phimill")).to_be_visible()
    page.get_by_role("button", name="Deny").click()
    page.goto(world.page)
    expect(page.get_by_role("button", name="Aanmelden met Hugging Face")).to_be_visible()
    context.close()


def asked(page: Page, target: str = "") -> str:
    page.get_by_label("Repo").fill(SOURCE)
    page.get_by_label("To").fill(target)
    page.get_by_label("Answer").fill("")
    page.get_by_role("button", name="Convert").click()
    expect(page.get_by_label("Answer")).not_to_have_value("")
    return page.get_by_label("Answer").input_value()


def test_signed_out_is_refused_and_signed_in_goes_into_one_s_own_namespaces(
    context: BrowserContext, world: World
) -> None:
    page = context.new_page()
    page.goto(world.form)
    assert "Only who has signed in may convert here." in asked(page)
    page.close()
    page = sign_in(context, world, world.form)
    assert "You may not publish to microsoft. You may publish to: ada, lovelace." in asked(page, "microsoft")
    builds = [asked(page), asked(page, "lovelace")]
    assert all(build.endswith("-1") for build in builds), builds
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in with Hugging Face")).to_be_visible()
    assert "Only who has signed in may convert here." in asked(page)


def test_a_program_brings_a_token_and_sees_no_private_build_of_others(world: World) -> None:
    def client(user: str | None) -> Client:
        headers = {"Authorization": f"Bearer {world.hub.token(user)}"} if user else {}
        return Client(world.form, headers=headers, verbose=False, analytics_enabled=False)

    assert "Only who has signed in" in client(None).predict(SOURCE, "", api_name="/convert")
    build = client("eve").predict(SOURCE, "", api_name="/convert")
    assert build.endswith("-1")
    assert build in client("eve").predict(api_name="/look")
    for other in ("ada", None):
        assert build not in client(other).predict(api_name="/look")


def test_another_site_is_nobody_even_with_the_visitor_s_cookie(context: BrowserContext, world: World) -> None:
    page = sign_in(context, world, world.form)
    call = f"{world.form}/gradio_api/call/convert"
    told = {}
    for origin in (world.form, "http://evil.example"):
        begun = page.request.post(call, data={"data": [SOURCE, ""]}, headers={"Origin": origin})
        told[origin] = page.request.get(f"{call}/{begun.json()['event_id']}").text()
    assert "Only who has signed in" in told["http://evil.example"]
    assert "Only who has signed in" not in told[world.form]


def test_no_token_lies_in_the_mill_s_home(context: BrowserContext, world: World) -> None:
    page = sign_in(context, world, world.form)
    asked(page)
    cookies = [cookie["value"] for cookie in context.cookies()]
    assert cookies
    kept = b"".join(path.read_bytes() for path in world.home.rglob("*") if path.is_file())
    assert b"ada" in kept
    assert b"hf_" not in kept
