"""The Hub in a browser: plain pages without scripts."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from bot.localhub import cards, history, metadata, repos, trees
from bot.localhub.calls import Call, int_query, route, web_prefixes
from bot.localhub.descriptions import describe
from bot.localhub.errors import EntryNotFoundError, HubError
from bot.localhub.history import Commit, Entry
from bot.localhub.rendering import render
from bot.localhub.repos import Repo
from bot.localhub.routes import collections

COMMITS_PAGE = 50
# No scripts at all; the one style sheet is a file.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' https: data:; style-src 'self'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
}


def file_size(size: int) -> str:
    """Return bytes as people read them: `1.2 MB` (powers of 1000, as the Hub shows them)."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


_PAGES = Environment(loader=PackageLoader("bot.localhub"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_PAGES.filters |= {"file_size": file_size, "quoted": lambda text: quote(str(text), safe="")}
_PAGES.filters["path"] = lambda text: quote(str(text), safe="/")


def routes() -> list[Route]:
    """Return the routes of this module. They come last: two segments of any name match."""
    found = [
        route("/", index),
        route("/static/style.css", style),
        route("/avatar.svg", avatar),
        route("/collections/{owner}/{slug}", collection),
    ]
    for kind, prefix in web_prefixes():
        start = f"{prefix}/{{owner}}/{{name}}"
        found += [
            route(start, repo_page, repo_type=kind),
            route(f"{start}/tree/{{rev}}", tree_page, repo_type=kind),
            route(f"{start}/tree/{{rev}}/{{path:path}}", tree_page, repo_type=kind),
            route(f"{start}/blob/{{rev}}/{{path:path}}", blob, repo_type=kind),
            route(f"{start}/commits/{{rev}}", commits_page, repo_type=kind),
            route(f"{start}/commit/{{rev}}", tree_page, repo_type=kind),
        ]
    return found


def index(call: Call) -> Response:
    """List all repositories and collections."""
    with call.hub.db.read() as connection:
        shown: list[dict[str, Any]] = []
        for kind in ("model", "dataset", "space"):
            for repo in repos.find_all(connection, kind):
                if call.identity.can_read(repo):
                    head = history.resolve(connection, repo, "main")
                    tags = metadata.of(call.hub.store, connection, repo, head).tags
                    shown.append({"repo": repo, "head": head, "tags": tags[:6]})
        rows = connection.execute("SELECT * FROM collections WHERE NOT private ORDER BY updated_at DESC").fetchall()
    shown.sort(key=lambda item: item["head"].date, reverse=True)
    return _page("index.html", repos=shown, collections=rows)


def repo_page(call: Call) -> Response:
    """Show a repository: its card, files, tags and latest commits."""
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        head = history.resolve(connection, repo, "main")
        files = history.entries(connection, head.id)
        text = metadata.read_text(call.hub.store, files.get("README.md")) or ""
        return _page(
            "repo.html",
            repo=repo,
            rev="main",
            files=list(files.values()),
            info=describe(call, connection, repo, head, {"tags", "usedStorage", "safetensors", "sha"}),
            versions=history.refs(connection, repo, "tag"),
            branches=history.refs(connection, repo, "branch"),
            commits=history.log(connection, head, 5),
            **_card(repo, text),
        )


def tree_page(call: Call) -> Response:
    """Show a folder at a revision."""
    path = call.params.get("path", "").strip("/")
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        commit = history.resolve(connection, repo, call.params["rev"])
        items = trees.listing(history.entries(connection, commit.id), path, recursive=False)
        if items is None:
            raise EntryNotFoundError(f"Entry not found: {path[:200]}")
        changes = history.by_ids(connection, {item.changed_in for item in items})
    items.sort(key=lambda item: (isinstance(item, Entry), item.path))
    rows = [(item, isinstance(item, Entry), changes.get(item.changed_in)) for item in items]
    return _page("tree.html", repo=repo, rev=call.params["rev"], commit=commit, path=path, rows=rows)


def blob(call: Call) -> Response:
    """Lead from the address of a file's page to the file."""
    path = quote(call.params["path"], safe="/")
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
    return RedirectResponse(f"{repo.url_path}/resolve/{quote(call.params['rev'], safe='')}/{path}", 302)


def commits_page(call: Call) -> Response:
    """Show the log of a revision."""
    page = int_query(call, "p", 0, 10**6)
    with call.hub.db.read() as connection:
        repo = call.repo(connection)
        head = history.resolve(connection, repo, call.params["rev"])
        found: list[Commit] = history.log(connection, head, COMMITS_PAGE + 1, page * COMMITS_PAGE)
    older = page + 1 if len(found) > COMMITS_PAGE else None
    return _page("commits.html", repo=repo, rev=call.params["rev"], commits=found[:COMMITS_PAGE], older=older)


def collection(call: Call) -> Response:
    """Show a collection."""
    with call.hub.db.read() as connection:
        body = collections.body(call, connection, collections.find(call, connection))
    return _page("collection.html", collection=body)


def style(call: Call) -> Response:
    """Send the one style sheet."""
    text = resources.files("bot.localhub").joinpath("templates/style.css").read_text("utf-8")
    return Response(text, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


def avatar(call: Call) -> Response:
    """Send the picture of every user: a plain disc."""
    disc = '<circle cx="4" cy="4" r="4" fill="#888"/>'
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">{disc}</svg>'
    return Response(text, media_type="image/svg+xml")


def _card(repo: Repo, text: str) -> dict[str, Any]:
    _, rest = cards.split(text)
    try:
        fields = cards.front_matter(text) or {}
    except HubError:
        fields = {}
    table = {name: _cell(value) for name, value in fields.items()}
    card = render(rest, f"{repo.url_path}/resolve/main/", f"{repo.url_path}/blob/main/") if rest.strip() else ""
    return {"card": card, "fields": table}


def _cell(value: Any) -> str | list[str]:
    """A field's value as text. What is nested comes in a list, to be folded away: it is for programs."""
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict | list):
        return [json.dumps(value, ensure_ascii=False, indent=2)]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def filled(template: str, **values: Any) -> str:
    """Return a page of this Hub as HTML."""
    return _PAGES.get_template(template).render(**values)


def _page(template: str, **values: Any) -> Response:
    return HTMLResponse(filled(template, **values), headers=SECURITY_HEADERS)
