"""Blobs, records and accounts on disk."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bot.localhub import HubConfig
from bot.localhub.auth import identify
from bot.localhub.commits import is_large
from bot.localhub.config import hash_token
from bot.localhub.database import SCHEMA_VERSION, Database, HubTooNewError
from bot.localhub.errors import BadRequestError, InvalidTokenError, TooLargeError
from bot.localhub.store import BlobStore, BlobWriter


def test_a_blob_is_named_by_its_content(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    sha256 = store.put(b"abc")
    assert sha256 == hashlib.sha256(b"abc").hexdigest()
    assert store.path(sha256).read_bytes() == b"abc"
    assert store.put(b"abc") == sha256
    assert not list(store.tmp.iterdir())


def test_an_unfinished_or_wrong_blob_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with BlobWriter(store) as writer:
        writer.write(b"half")
    with BlobWriter(store) as writer:
        writer.write(b"other")
        with pytest.raises(BadRequestError, match="SHA-256"):
            writer.finish("0" * 64)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_opening_a_store_sweeps_what_a_dead_process_left(tmp_path: Path) -> None:
    (BlobStore(tmp_path).tmp / "left").write_bytes(b"x")
    assert list(BlobStore(tmp_path).tmp.iterdir()) == []


def test_a_full_disk_is_told_in_advance(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="no room"):
        BlobStore(tmp_path).check_room(10**18)


def test_a_failed_write_is_undone_and_a_reader_sees_one_state(tmp_path: Path) -> None:
    db = Database(tmp_path / "db")
    add = "INSERT INTO commits (repo_id, oid, title, message, author, date) VALUES ('r', ?, '', '', '', '')"
    with pytest.raises(sqlite3.IntegrityError), db.write() as connection:
        connection.execute(add, ("1",))  # no such repository
    with db.write() as connection:
        connection.execute("INSERT INTO repos VALUES ('r', 'model', 'o', 'n', 0, '', NULL, '')")
    with db.read() as reader:
        assert reader.execute("SELECT count(*) FROM commits").fetchone()[0] == 0
        with db.write() as connection:
            connection.execute(add, ("1",))
        assert reader.execute("SELECT count(*) FROM commits").fetchone()[0] == 0
    with db.read() as reader:
        assert reader.execute("SELECT count(*) FROM commits").fetchone()[0] == 1
    db.close()


def test_records_from_before_they_had_a_version_open_and_get_one(tmp_path: Path) -> None:
    Database(tmp_path / "db").close()
    with closing(sqlite3.connect(tmp_path / "db")) as old:
        old.execute("PRAGMA user_version = 0")
        old.execute("INSERT INTO repos VALUES ('r', 'model', 'o', 'n', 0, '', NULL, '')")
        old.commit()
    db = Database(tmp_path / "db")
    with db.read() as reader:
        assert reader.execute("SELECT name FROM repos").fetchone()[0] == "n"
        assert reader.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    db.close()


def test_records_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    Database(tmp_path / "db").close()
    with closing(sqlite3.connect(tmp_path / "db")) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(HubTooNewError, match="newer phimill"):
        Database(tmp_path / "db")
    with closing(sqlite3.connect(tmp_path / "db")) as newer:
        assert newer.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION + 1


def test_accounts_made_by_another_process_are_seen_at_once(tmp_path: Path) -> None:
    serving, editing = HubConfig(tmp_path), HubConfig(tmp_path)
    editing.add_user("ada", "Ada L.")
    token = editing.add_token("ada", "write")
    identity = identify(serving.accounts, f"Bearer {token}")
    assert (identity.user, identity.role) == ("ada", "write")
    editing.add_org("o", {"ada": "read"})
    assert serving.accounts.orgs == {"o": {"ada": "read"}}


def test_tokens_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    HubConfig(tmp_path).add_user("ada")
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: HubConfig(tmp_path).add_token("ada", "read"), range(16)))
    assert set(HubConfig(tmp_path).accounts.tokens) == {hash_token(token) for token in tokens}


def test_an_account_that_cannot_be_is_refused(tmp_path: Path) -> None:
    config = HubConfig(tmp_path)
    config.add_user("ada")
    config.add_user("ada", "Ada L.")
    config.add_org("org", {})
    config.add_org("org", {"ada": "write"})
    for attempt in (
        lambda: config.add_user("a b"),
        lambda: config.add_user("ORG"),
        lambda: config.add_user("ADA"),
        lambda: config.add_org("Org", {}),
        lambda: config.add_org("Ada", {}),
        lambda: config.add_org("x", {"nobody": "read"}),
        lambda: config.add_token("nobody", "read"),
        lambda: config.add_user("api"),
    ):
        with pytest.raises(BadRequestError):
            attempt()


@pytest.mark.parametrize("header", ["hf_x", "Basic abc", "Bearer", "Bearer hf_x", "Bearer "])
def test_an_unknown_token_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(InvalidTokenError):
        identify(HubConfig(tmp_path).accounts, header)


@pytest.mark.parametrize(
    ("path", "size", "sample", "large"),
    [
        ("README.md", 100, b"# Hi", False),
        ("config.json", 100, b"{}", False),
        ("tokenizer.json", 11_000_000, b"{}", True),
        ("m.GGUF", 3, b"abc", True),
        ("notes.txt", 3, b"\0ab", True),
        ("notes.txt", 3, b"\xff\xfeab", True),
        ("notes.txt", 600, "ä".encode() * 255 + b"a\xc3", False),
        ("noending", 3, b"abc", False),
        ("model", 3, b"abc", False),
        ("data.d/notes", 3, b"abc", False),
    ],
)
def test_a_file_is_large_by_ending_size_or_content(path: str, size: int, sample: bytes, large: bool) -> None:
    assert is_large(path, size, sample) is large
