"""Collections: named lists of repositories."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.localhub import repos
from bot.localhub.calls import Call, find_repo, int_query, route, text_field
from bot.localhub.errors import BadRequestError, ConflictError, NotFoundError
from bot.localhub.names import REPO_TYPES

PAGE = 100
THEMES = ("orange", "blue", "green", "purple", "pink", "indigo")
MAX_TITLE = 200  # characters
MAX_TEXT = 1000  # characters of a description or a note


def routes() -> list[Route]:
    """Return the routes of this module."""
    one = "/api/collections/{owner}/{slug}"
    return [
        route("/api/collections", list_collections),
        route("/api/collections", create, "POST"),
        route(one, get),
        route(one, update, "PATCH"),
        route(one, delete, "DELETE"),
        route(f"{one}/items", add_item, "POST"),
        route(f"{one}/items/{{item}}", update_item, "PATCH"),
        route(f"{one}/items/{{item}}", delete_item, "DELETE"),
    ]


def list_collections(call: Call) -> Response:
    """List the collections of an owner, or those that hold an item (`item=models/owner/name`)."""
    size = int_query(call, "limit", PAGE, PAGE) or 1
    start = int_query(call, "cursor", 0, 10**9)
    owner, item = call.query.get("owner"), call.query.get("item")
    with call.hub.db.read() as connection:
        rows = connection.execute("SELECT * FROM collections ORDER BY updated_at DESC, id").fetchall()
        visible = [row for row in rows if _visible(call, row)]
        if owner:
            visible = [row for row in visible if row["owner"].lower() == owner.lower()]
        found = [body(call, connection, row) for row in visible]
    for one in found:
        # The client numbers what it lists itself, and takes no second number.
        del one["position"]
    if item:
        found = [one for one in found if item in [f"{each['type']}s/{each['id']}" for each in one["items"]]]
    more = call.page_link(cursor=start + size) if start + size < len(found) else {}
    return JSONResponse(found[start : start + size], headers=more)


def create(call: Call) -> dict[str, Any]:
    """Make an empty collection. Raises `ConflictError`, with the slug, if the owner has one of that title."""
    asked = call.json()
    title, owner = _text(asked, "title", MAX_TITLE), text_field(asked, "namespace")
    if not title.strip():
        raise BadRequestError("A collection needs a title.")
    call.identity.require_write(owner)
    call.identity.require_scope("manage-repos")
    description = _text(asked, "description", MAX_TEXT) if asked.get("description") else None
    identifier = repos.new_id()
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "collection"
    with call.hub.db.write() as connection:
        known = connection.execute(
            "SELECT slug FROM collections WHERE owner = ? AND title = ?", (owner, title)
        ).fetchone()
        if known:
            raise ConflictError("You already have a collection of that title.", body={"slug": known["slug"]})
        connection.execute(
            "INSERT INTO collections VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (
                identifier, f"{owner}/{words}-{identifier}", owner, title, description,
                bool(asked.get("private")), THEMES[0], repos.now(),
            ),
        )  # fmt: skip
        row = connection.execute("SELECT * FROM collections WHERE id = ?", (identifier,)).fetchone()
        return body(call, connection, row)


def get(call: Call) -> dict[str, Any]:
    """Describe a collection."""
    with call.hub.db.read() as connection:
        return body(call, connection, find(call, connection))


def update(call: Call) -> dict[str, Any]:
    """Change a collection's title, description, theme, position or visibility. The slug stays."""
    asked = call.json()
    with call.hub.db.write() as connection:
        row = _writable(call, connection)
        values = {
            "title": _text(asked, "title", MAX_TITLE, row["title"]),
            "description": _text(asked, "description", MAX_TEXT, row["description"] or "") or None,
            "theme": text_field(asked, "theme", row["theme"]),
            "position": _position(asked, row["position"]),
            "private": bool(asked.get("private", row["private"])),
        }
        if values["theme"] not in THEMES:
            raise BadRequestError(f"'theme' must be one of {', '.join(THEMES)}.")
        try:
            connection.execute(
                "UPDATE collections SET title = :title, description = :description, theme = :theme,"
                " position = :position, private = :private, updated_at = :now WHERE id = :id",
                {**values, "now": repos.now(), "id": row["id"]},
            )
        except sqlite3.IntegrityError as error:
            raise ConflictError("You already have a collection of that title.") from error
        return {"success": True, "data": body(call, connection, find(call, connection))}


def delete(call: Call) -> dict[str, Any]:
    """Remove a collection. Its repositories stay."""
    with call.hub.db.write() as connection:
        connection.execute("DELETE FROM collections WHERE id = ?", (_writable(call, connection)["id"],))
    return {"success": True}


def add_item(call: Call) -> dict[str, Any]:
    """Put a repository at the end. Raises `ConflictError` if it is in the collection already."""
    asked = call.json()
    item = asked.get("item")
    if not isinstance(item, dict) or item.get("type") not in REPO_TYPES:
        raise BadRequestError("'item' must name a model, dataset or space of this Hub.")
    note = _note(asked)
    with call.hub.db.write() as connection:
        row = _writable(call, connection)
        repo = find_repo(connection, call.identity, item["type"], text_field(item, "id"))
        (position,) = connection.execute(
            "SELECT coalesce(max(position) + 1, 0) FROM collection_items WHERE collection_id = ?",
            (row["id"],),
        ).fetchone()
        try:
            connection.execute(
                "INSERT INTO collection_items VALUES (?, ?, ?, ?, ?)",
                (repos.new_id(), row["id"], repo.id, note, position),
            )
        except sqlite3.IntegrityError as error:
            raise ConflictError(f"{repo.full_name} is in this collection already.") from error
        _touch(connection, row)
        return body(call, connection, find(call, connection))


def update_item(call: Call) -> dict[str, Any]:
    """Change an item's note or position."""
    asked = call.json()
    with call.hub.db.write() as connection:
        row = _writable(call, connection)
        item = _item(call, connection, row)
        note = _note(asked) if "note" in asked else item["note"]
        connection.execute(
            "UPDATE collection_items SET note = ?, position = ? WHERE id = ?",
            (note, _position(asked, item["position"]), item["id"]),
        )
        _touch(connection, row)
    return {"success": True}


def delete_item(call: Call) -> dict[str, Any]:
    """Take an item out."""
    with call.hub.db.write() as connection:
        row = _writable(call, connection)
        item = _item(call, connection, row)
        connection.execute("DELETE FROM collection_items WHERE id = ?", (item["id"],))
        _touch(connection, row)
    return {"success": True}


def find(call: Call, connection: sqlite3.Connection) -> sqlite3.Row:
    """Return the collection of the URL, or raise `NotFoundError`."""
    # Only the id at the end counts: the words before it may be of an old title.
    row = connection.execute(
        "SELECT * FROM collections WHERE id = ? AND owner = ?",
        (call.params["slug"][-24:], call.params["owner"]),
    ).fetchone()
    if row is None or not _visible(call, row):
        raise NotFoundError("Collection not found")
    found: sqlite3.Row = row
    return found


def body(call: Call, connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """Return a collection as JSON, without the items that the caller may not see."""
    items = connection.execute(
        "SELECT repos.*, collection_items.id AS item_id, note, position FROM collection_items"
        " JOIN repos ON repos.id = repo_id WHERE collection_id = ? ORDER BY position, collection_items.id",
        (row["id"],),
    )
    return {
        "slug": row["slug"],
        "title": row["title"],
        "description": row["description"] or "",
        "owner": row["owner"],
        "lastUpdated": row["updated_at"],
        "position": row["position"],
        "private": bool(row["private"]),
        "theme": row["theme"],
        "upvotes": 0,
        "items": [
            {
                "_id": item["item_id"],
                "id": f"{item['owner']}/{item['name']}",
                "type": item["type"],
                "position": item["position"],
                "note": {"html": "", "text": item["note"]} if item["note"] else None,
            }
            for item in items
            if call.identity.can_read(repos.from_row(item))
        ],
    }


def _visible(call: Call, row: sqlite3.Row) -> bool:
    return not row["private"] or call.identity.can_read_collections(row["owner"])


def _writable(call: Call, connection: sqlite3.Connection) -> sqlite3.Row:
    row = find(call, connection)
    call.identity.require_write(row["owner"])
    call.identity.require_scope("manage-repos")
    return row


def _item(call: Call, connection: sqlite3.Connection, row: sqlite3.Row) -> sqlite3.Row:
    item = connection.execute(
        "SELECT * FROM collection_items WHERE id = ? AND collection_id = ?", (call.params["item"], row["id"])
    ).fetchone()
    if item is None:
        raise NotFoundError("Item not found in this collection")
    found: sqlite3.Row = item
    return found


def _touch(connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    connection.execute("UPDATE collections SET updated_at = ? WHERE id = ?", (repos.now(), row["id"]))


def _note(asked: dict[str, Any]) -> str | None:
    return _text(asked, "note", MAX_TEXT) if asked.get("note") else None


def _text(asked: dict[str, Any], name: str, longest: int, default: str | None = None) -> str:
    text = text_field(asked, name, default)
    if len(text) > longest:
        raise BadRequestError(f"{name!r} is longer than {longest} characters.")
    return text


def _position(asked: dict[str, Any], default: int) -> int:
    position = asked.get("position", default)
    if not isinstance(position, int) or not 0 <= position < 2**31:
        raise BadRequestError("'position' must be a whole number.")
    return position
