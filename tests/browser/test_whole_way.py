"""The whole way to a conversion: the real page, the real mill, a real Hub, llama.cpp and Chromium."""

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
from typing import Any

import phi_repos
import pytest
from gradio_client import Client
from huggingface_hub import HfApi
from playwright.sync_api import Browser, BrowserContext, Page, expect
from ports import free_port

from bot import toolchain
from bot.localhub import RunningHub

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "models" / "tiny-phi-3.5-instruct"
SOURCE = "microsoft/Phi-3.5-tiny-instruct"
TARGET = "ada/Phi-3.5-tiny-instruct-GGUF"
PATIENCE = 600.0  # seconds; only a hang takes so long, however busy the machine

pytestmark = pytest.mark.backend


@dataclass
class Space:
    """The page as a Space starts it, which can be killed and started again."""

    hub: RunningHub
    environment: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], env=self.environment, start_new_session=True
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the page did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def says(self, user: str, build: str) -> dict[str, Any]:
        """The build as a program of `user` is told of it."""
        headers = {"Authorization": f"Bearer {self.hub.token(user)}"}
        client = Client(self.url, headers=headers, verbose=False, analytics_enabled=False)
        answer: dict[str, Any] = client.predict(build, 1, api_name="/status")
        return answer["builds"][0]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    root = tmp_path_factory.mktemp("whole-way")
    toolchains = [toolchain.ensure(name).python for name in ("reference", "gguf")]
    assert all(python.exists() for python in toolchains)
    with RunningHub(root / "hub") as hub:
        for name in ("ada", "eve"):
            hub.config.add_user(name)
        hub.config.add_org("microsoft", {"miller": "admin"})
        phi_repos.upload(hub.url, hub.token("miller"), SOURCE, MODEL)
        port = free_port()
        client, secret = hub.config.add_app(
            "phimill", [f"http://127.0.0.1:{port}/login/callback"], ["contribute-repos"]
        )
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "SYSTEM": "spaces", "SPACE_ID": "phimill/phimill",
            "HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hf"), "HF_TOKEN": hub.token("miller"),
            "OPENID_PROVIDER_URL": hub.url, "OAUTH_CLIENT_ID": client, "OAUTH_CLIENT_SECRET": secret,
            "OAUTH_SCOPES": "openid profile contribute-repos", "PHIMILL_HOME": str(root / "home"),
            "PHIMILL_HOST": "127.0.0.1", "PHIMILL_PORT": str(port), "PHIMILL_NAMESPACE": "miller",
            "PHIMILL_WATCH": "[]", "PHIMILL_BACKENDS": '["gguf"]',
        }  # fmt: skip
        space = Space(hub, environment, port)
        space.start()
        yield space
        space.stop()


@contextmanager
def somebody(browser: Browser) -> Iterator[BrowserContext]:
    """A browser with cookies of its own."""
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE)
    yield context
    context.close()


def sign_in(page: Page, space: Space, user: str) -> None:
    page.get_by_role("button", name="Sign in with Hugging Face").click()
    page.get_by_label("Account").fill(user)
    page.get_by_label("One of its tokens").fill(space.hub.token(user))
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text(f"Signed in as {user}.")).to_be_visible()


def ask_for(page: Page, recipes: set[str]) -> str:
    """Tick these variants and no others, and ask for them privately. The address of the build."""
    expect(page.locator("input[data-recipe]").first).to_be_visible()
    for box in page.locator("input[data-recipe]").all():
        box.set_checked(box.get_attribute("data-recipe") in recipes)
    page.get_by_label("Private").check()
    expect(page.get_by_text(f"Variants: {len(recipes)}.")).to_be_visible()
    expect(page.get_by_text(f"{TARGET}, as v1.0")).to_be_visible()
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(page.get_by_text("In the queue. Watch it here")).to_be_visible()
    link = page.locator("a[href^='?build=']").last
    return str(link.get_attribute("href"))


def test_from_a_few_letters_to_a_model_that_speaks(browser: Browser, space: Space) -> None:
    expect.set_options(timeout=1000 * PATIENCE)
    with somebody(browser) as ada, somebody(browser) as eve:
        page = ada.new_page()
        _look_around_signed_out(page, space)
        sign_in(page, space, "ada")
        expect(page.get_by_label("Which model?")).to_have_value(SOURCE)
        asked = ask_for(page, {"gguf/int4", "gguf/int8"})

        page.goto(f"{space.url}/{asked}")
        expect(page.get_by_role("heading", name=SOURCE)).to_be_visible()
        expect(page.locator(".log")).to_contain_text("convert")  # it is watched while it goes on
        page.reload(wait_until="domcontentloaded")
        expect(page.locator(".log")).to_contain_text("convert")
        page.close()

        _restart_in_the_middle(space, asked.removeprefix("?build="))
        _see_nothing_as_somebody_else(eve, space, asked)

        page = ada.new_page()
        page.goto(f"{space.url}/{asked}")
        _cancel_another(ada, space)
        expect(page.locator(".chip.published")).to_have_count(2)
        assert HfApi(space.hub.url, token=space.hub.token("ada")).model_info(TARGET, revision="v1.0").private
        _run_what_is_shown(page, space)


def _look_around_signed_out(page: Page, space: Space) -> None:
    page.goto(f"{space.url}/?tab=convert")
    page.wait_for_function("window.tabIsOpen")
    page.get_by_label("Which model?").press_sequentially("tiny", delay=100)
    page.locator("[data-repo]").first.click()
    expect(page.get_by_role("heading", name=SOURCE)).to_be_visible()
    expect(page.get_by_text("Sign in to convert")).to_be_visible()
    expect(page.get_by_role("button", name="Convert", exact=True)).to_be_hidden()


def _cancel_another(ada: BrowserContext, space: Space) -> None:
    """One running build per person: the other one waits, and is cancelled while it does."""
    page = ada.new_page()
    page.goto(f"{space.url}/?repo={SOURCE}")
    page.goto(f"{space.url}/{ask_for(page, {'gguf/fp32'})}")
    page.get_by_role("button", name="Cancel this build").click()
    expect(page.locator(".facts .chip.cancelled")).to_be_visible()
    page.close()


def _see_nothing_as_somebody_else(eve: BrowserContext, space: Space, asked: str) -> None:
    page = eve.new_page()
    page.goto(space.url)
    sign_in(page, space, "eve")
    page.goto(f"{space.url}/{asked}")
    expect(page.get_by_text("is not a build")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel this build")).to_be_hidden()
    page.goto(f"{space.url}/?tab=builds")
    expect(page.get_by_text("No builds yet")).to_be_visible()
    page.close()


def _restart_in_the_middle(space: Space, build: str) -> None:
    """Her token lived in the memory of the process that is gone: the build waits for her, and says so."""
    assert space.says("ada", build)["phase"] == "running"
    space.kill()
    space.start()
    deadline = time.monotonic() + PATIENCE
    while (said := space.says("ada", build))["awaits"] != "sign_in":
        assert time.monotonic() < deadline, said
        time.sleep(1)


def _run_what_is_shown(page: Page, space: Space) -> None:
    snippet = next(text for text in page.locator("pre").all_inner_texts() if "from llama_cpp import" in text)
    code = snippet[snippet.index("from llama_cpp import") :]
    environment = {**space.environment, "HF_TOKEN": space.hub.token("ada")}
    python = toolchain.ensure("gguf").python
    spoken = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert spoken.returncode == 0, spoken.stderr
    assert spoken.stdout.strip()
