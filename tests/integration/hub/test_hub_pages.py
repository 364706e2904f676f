"""The pages a person sees. What a card says must not do anything."""

from __future__ import annotations

import re

import pytest
from hub_http import Http
from huggingface_hub import CommitOperationAdd, HfApi

from bot.localhub import RunningHub

HOSTILE = """---
license: "<script>alert(1)</script>"
tags: ["<img src=x onerror=alert(2)>"]
---
# Title
<script>alert(3)</script> <img src="a.png" onerror="alert(4)"> <a href="javascript:alert(5)">x</a>
[link](javascript:alert(6)) [data](data:text/html,<script>alert(7)</script>) <iframe src="//evil"></iframe>
<style>body{display:none}</style> <svg onload=alert(8)> <form action="//evil"><input></form>
<a href="//evil.example/x" style="position:fixed" onclick=alert(9)>y</a> <base href="//evil">
![plot](plots/kl.png) [doc](docs/a.md#part) [abs](https://example.com/x)

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.fixture
def shown(api: HfApi, repo: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repository with a hostile card, folders and versions."""
    monkeypatch.setattr(api, "_validate_yaml", lambda *_, **__: None)
    api.create_commit(
        repo,
        [
            CommitOperationAdd("README.md", HOSTILE.encode()),
            CommitOperationAdd("sub dir/a&b#c.txt", b"hello"),
            CommitOperationAdd("<b>.txt", b"x" * 12_345),
        ],
        commit_message="<script>alert('title')</script>",
    )
    api.create_tag(repo, tag="v1.0")
    return repo


def test_a_hostile_card_is_harmless(shown: str, http_call: Http) -> None:
    answer = http_call("GET", f"/{shown}")
    page = answer.body.decode()
    assert answer.status == 200
    for element in ("script", "iframe", "style", "form", "input", "base", "svg"):
        assert f"<{element}" not in page.lower()
    tags = re.findall(r"<[a-z][^>]*>", page)
    assert not [tag for tag in tags if re.search(r"\son\w+\s*=|javascript:|style=|href=.?data:", tag, re.IGNORECASE)]
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_card_is_readable(shown: str, http_call: Http) -> None:
    page = http_call("GET", f"/{shown}").body.decode()
    assert f'src="/{shown}/resolve/main/plots/kl.png"' in page
    assert f'href="/{shown}/blob/main/docs/a.md#part"' in page
    assert 'href="https://example.com/x"' in page
    assert "<td>2</td>" in page
    assert '<th scope="row">license</th><td>&lt;script&gt;' in page


def test_every_link_of_a_repo_leads_somewhere(shown: str, http_call: Http) -> None:
    waiting, seen = [f"/{shown}"], set[str]()
    while waiting:
        address = waiting.pop().replace("&amp;", "&").partition("#")[0]
        if address in seen or shown not in address or "docs/a.md" in address:
            continue
        seen.add(address)
        answer = http_call("GET", address)
        assert answer.status in (200, 302), address
        if answer.headers["Content-Type"].startswith("text/html"):
            waiting += re.findall(r'href="(/[^"]*)"', answer.body.decode())
    assert f"/{shown}/resolve/main/sub%20dir/a%26b%23c.txt" in seen
    assert f"/{shown}/tree/v1.0/sub%20dir" in seen
    assert f"/{shown}/commits/main" in seen


def test_a_page_shows_sizes_and_versions(shown: str, http_call: Http) -> None:
    page = http_call("GET", f"/{shown}").body.decode()
    assert "12.3 kB" in page
    assert "v1.0" in page


def test_the_front_page_lists_public_repos_only(api: HfApi, repo: str, http_call: Http, hub: RunningHub) -> None:
    assert f'href="/{repo}"' in http_call("GET", "/").body.decode()
    api.update_repo_settings(repo, visibility="private")
    assert repo not in http_call("GET", "/").body.decode()
    assert http_call("GET", f"/{repo}").status == 401
    assert http_call("GET", f"/{repo}", None, hub.token("miller")).status == 200


def test_a_collection_has_a_page(api: HfApi, repo: str, http_call: Http) -> None:
    made = api.create_collection(f"Phi <b> {repo[-6:]}", namespace="phimill", description="d & e")
    api.add_collection_item(made.slug, repo, "model", note="small")
    page = http_call("GET", f"/collections/{made.slug}").body.decode()
    assert f'href="/{repo}"' in page
    assert "Phi &lt;b&gt;" in page
    assert "d &amp; e" in page


def test_the_log_has_a_page(shown: str, http_call: Http) -> None:
    page = http_call("GET", f"/{shown}/commits/main").body.decode()
    assert "&lt;script&gt;alert(&#39;title&#39;)" in page
    assert "initial commit" in page
