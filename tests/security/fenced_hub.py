"""A Hub with things to hide, and a record of all that is written beside it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sqlite3
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hostile_hub import Shelf
from huggingface_hub import CommitOperationAdd, HfApi
from made_up_bodies import ABSENT, HIDDEN, ORG, SHA
from made_up_requests import MadeUp

from bot.localhub import RunningHub
from bot.localhub.database import Database
from bot.localhub.grants import Consent, Grants

TREASURE, VAULT, SECRET = "buried-treasure", "vault.txt", "hush-hush"
# Who may change what is their own: that is their affair.
_OWNERS = {"eve": "eve", "eve's app": "eve", "ada": "ada"}


def _not_of(owner: str) -> dict[str, str]:
    """By table, which rows are somebody else's."""
    made = f"SELECT id FROM repos WHERE owner = '{owner}'"
    return {
        "repos": f"owner <> '{owner}'",
        "commits": f"repo_id NOT IN ({made})",
        "entries": f"commit_id NOT IN (SELECT id FROM commits WHERE repo_id IN ({made}))",
        "collections": f"owner <> '{owner}'",
        "collection_items": f"collection_id NOT IN (SELECT id FROM collections WHERE owner = '{owner}')",
        "webhooks": f"owner <> '{owner}'",
        "oauth_codes": f"user <> '{owner}'",
        "oauth_tokens": f"user <> '{owner}'",
        **dict.fromkeys(("refs", "repo_objects", "spaces", "space_settings", "app_repos"), f"repo_id NOT IN ({made})"),
    }


_CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")


@dataclass(frozen=True)
class Answer:
    """What came back. Status 0: the connection was closed without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return "\n".join([*map(": ".join, self.headers.items()), self.body.decode("utf-8", "replace")])


class Fence:
    """Notes every change of a file outside of a folder, made by any thread but the one that began it."""

    def __init__(self, root: Path) -> None:
        self.broken: list[str] = []
        self._root, self._tester, self._up = str(root), threading.get_ident(), True
        sys.addaudithook(self._seen)

    def down(self) -> None:
        self._up = False  # a hook cannot be taken away

    def _seen(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._up or threading.get_ident() == self._tester:
            return
        writing = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writing and event not in _CHANGING:
            return
        named = args[:1] if writing else args[:2]
        for name in (os.fsdecode(arg) for arg in named if isinstance(arg, str | bytes | os.PathLike)):
            # What shutil.rmtree removes it names from within the folder.
            if (writing or os.path.isabs(name)) and not os.path.realpath(name).startswith(self._root):
                self.broken.append(f"{event} {name}")


class FencedHub:
    """Eve has repos of her own and a token that writes. Nobody here may change what is not hers."""

    def __init__(self, root: Path) -> None:
        self.root = root / "hub"
        self.hub = RunningHub(self.root)
        for name in ("ada", "eve"):
            self.hub.config.add_user(name)
        self.hub.config.add_org(ORG, {"miller": "admin", "ada": "read"})
        client, _ = self.hub.config.add_app("app", ["https://app.test/back"], ["contribute-repos"])
        self.names = {"client": client}

    def __enter__(self) -> FencedHub:
        self.hub.__enter__()
        self._live = sqlite3.connect(self.root / "hub.sqlite", isolation_level=None)
        self._tokens = {
            "eve": self.hub.token("eve"),
            "eve's reader": self.hub.token("eve", "read"),
            "ada": self.hub.token("ada"),
            "miller's reader": self.hub.token("miller", "read"),
            "eve's app": self._app("eve", "openid profile contribute-repos"),
            "miller's app": self._app("miller", "openid profile"),
        }
        self._furnish()
        self._pristine = sqlite3.connect(":memory:")
        self._live.backup(self._pristine)
        self._version = self._clean = self._seen_version()
        self.note()
        self.fence = Fence(self.root)
        return self

    def __exit__(self, *_: object) -> None:
        self.fence.down()
        self._live.close()
        self._pristine.close()
        self.hub.__exit__(None, None, None)

    def reset(self) -> None:
        """Take back what was done."""
        if self._seen_version() != self._clean:
            self._pristine.backup(self._live)
            self._version = self._clean = self._seen_version()
            self.note()

    def note(self) -> None:
        """Remember how things stand."""
        self._before = {owner: self._rows(owner) for owner in ("nobody", *_OWNERS.values())}

    def changed(self) -> bool:
        """Whether anything was written since this was last asked."""
        before, self._version = self._version, self._seen_version()
        return before != self._version

    def untouched(self, who: str) -> bool:
        """Whether all that `who` may not change is as it was when it was noted."""
        owner = _OWNERS.get(who, "nobody")
        return self._rows(owner) == self._before[owner]

    def ask(self, made_up: MadeUp) -> Answer:
        """Send a request as it is written, and hear the whole answer."""
        target, body = self._filled(made_up.target), self._filled(made_up.body.decode("latin-1")).encode("latin-1")
        sent = {"Host": f"127.0.0.1:{self.hub.port}", "Connection": "close", **dict(made_up.headers)}
        if made_up.who in self._tokens:
            sent["Authorization"] = f"Bearer {self._tokens[made_up.who]}"
        if made_up.target in ("@xorb@", "@shard@") and made_up.who == "eve":
            sent["Authorization"] = f"Bearer {self.names['xet token']}"
        if body or made_up.announced is not None:
            sent["Content-Length"] = str(len(body) if made_up.announced is None else made_up.announced)
        lines = [f"{made_up.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        with socket.create_connection(("127.0.0.1", self.hub.port), timeout=60) as connection:
            connection.sendall("\r\n".join(lines).encode("latin-1") + body)
            if made_up.announced is not None:
                connection.shutdown(socket.SHUT_WR)  # nobody need wait for what was announced and never comes
            return _heard(connection, made_up.method)

    def _filled(self, text: str) -> str:
        return re.sub("@([a-z' ]+)@", lambda found: self.names.get(found[1], found[0]), text)

    def _app(self, user: str, scopes: str) -> str:
        database = Database(self.root / "hub.sqlite")
        consent = Consent(self.names["client"], user, scopes, "https://app.test/back", None, None)
        token = Grants(database).token(consent, 24 * 3600)
        database.close()
        return token

    def _seen_version(self) -> int:
        return int(self._live.execute("PRAGMA data_version").fetchone()[0])

    def _rows(self, owner: str) -> dict[str, list[Any]]:
        """All rows of others than this owner."""
        asked = {table: f"SELECT * FROM {table} WHERE {where}" for table, where in _not_of(owner).items()}
        return {table: sorted(self._live.execute(query).fetchall(), key=repr) for table, query in asked.items()}

    def _furnish(self) -> None:
        shelf = Shelf(self.root)
        card = b"---\nlicense: mit\ntags: [gguf]\n---\n# A model\n"
        files = {"README.md": card, "sub/a.txt": b"a", "config.json": b"{}", "weights.safetensors": b"\2" + bytes(9)}
        for name in (HIDDEN, "open", "gated"):
            shelf.put(f"{ORG}/{name}", files | ({VAULT: TREASURE.encode()} if name != "open" else {}))
        shelf.close()
        miller, eve = (HfApi(self.hub.url, self.hub.token(name)) for name in ("miller", "eve"))
        miller.update_repo_settings(f"{ORG}/{HIDDEN}", private=True)
        miller.update_repo_settings(f"{ORG}/gated", gated="auto")
        for api, owner, name in ((miller, ORG, "open"), (eve, "eve", "eves")):
            for kind in ("dataset", "space", "model"):
                api.create_repo(f"{owner}/{name}", repo_type=kind, space_sdk="gradio" if kind == "space" else None,
                                exist_ok=True)  # fmt: skip
            api.create_tag(f"{owner}/{name}", tag="v1.0")
            api.create_branch(f"{owner}/{name}", branch="dev")
        self._furnish_lists(miller, eve)
        added = [CommitOperationAdd("README.md", card), CommitOperationAdd("sub/a.txt", b"a")]
        self.names["commit"] = eve.create_commit("eve/eves", added, commit_message="add").oid
        self._furnish_links()

    def _furnish_lists(self, miller: HfApi, eve: HfApi) -> None:
        hidden = miller.create_collection(SECRET, namespace=ORG, private=True)
        miller.add_collection_item(hidden.slug, f"{ORG}/{HIDDEN}", "model")
        hers = eve.create_collection("hers", namespace="eve")
        hers = eve.add_collection_item(hers.slug, f"{ORG}/open", "model")
        hooks = [
            api.create_webhook(url="http://127.0.0.1:9/", watched=[{"type": "org", "name": ORG}], secret=secret)
            for api, secret in ((miller, SECRET), (eve, "hers"))
        ]
        self.names |= {
            "hidden slug": hidden.slug.partition("/")[2], "eve's slug": hers.slug.partition("/")[2],
            "eve's item": hers.items[0].item_object_id, "miller's webhook": hooks[0].id, "eve's webhook": hooks[1].id,
        }  # fmt: skip

    def _furnish_links(self) -> None:
        """Signed addresses for large files of eve's, and a token for her xorbs."""
        wanted = [{"oid": SHA, "size": 7}, {"oid": "1f" * 32, "size": 2**26}]
        batch = json.dumps({"operation": "upload", "objects": wanted}).encode()
        answer = self.ask(MadeUp("POST", "/eve/eves.git/info/lfs/objects/batch", "eve", body=batch))
        small, large = json.loads(answer.body)["objects"]
        cas = json.loads(self.ask(MadeUp("GET", "/api/models/eve/eves/xet-write-token/main", "eve")).body)
        links = {
            "whole": small["actions"]["upload"]["href"], "verify": small["actions"]["verify"]["href"],
            "joined": large["actions"]["upload"]["href"], "part": large["actions"]["upload"]["header"]["1"],
            "xorb": f"{cas['casUrl']}/v1/xorbs/default/{SHA}", "shard": f"{cas['casUrl']}/v1/shards",
        }  # fmt: skip
        self.names |= {name: urlsplit(url)._replace(scheme="", netloc="").geturl() for name, url in links.items()}
        self.names["xet token"] = cas["accessToken"]

    def secrets(self) -> tuple[str, ...]:
        """What only members of the organisation may ever read."""
        (identifier,) = self._pristine.execute("SELECT id FROM repos WHERE name = ?", (HIDDEN,)).fetchone()
        (commit,) = self._pristine.execute("SELECT oid FROM commits WHERE repo_id = ?", (identifier,)).fetchone()
        return TREASURE, SECRET, identifier, commit


def _heard(connection: socket.socket, method: str) -> Answer:
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
    except http.client.RemoteDisconnected:
        return Answer(0, {}, b"")
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def alike(answer: Answer) -> tuple[int, str]:
    """An answer without what differs from one request to the next: names, ids, times."""
    text = answer.text.replace(HIDDEN, "#").replace(ABSENT, "#")
    text = re.sub(r"[0-9a-f]{24,}|\d{4}-\d\d-\d\dT[\d:.]+Z|date: [^\n]*", "#", text)
    return answer.status, text
