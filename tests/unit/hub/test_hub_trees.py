"""Folders out of flat lists, with the object ids that git gives."""

from __future__ import annotations

from bot.localhub import trees
from bot.localhub.history import Entry, git_blob_oid, lfs_pointer


def entry(path: str, content: bytes, changed_in: int = 1) -> Entry:
    return Entry(path, git_blob_oid(content), len(content), "0" * 64, lfs=False, changed_in=changed_in)


FILES = {
    file.path: file for file in (entry("a-b", b"y", 3), entry("a.txt", b"x\n", 1), entry("a/b/c.txt", b"hello\n", 2))
}


def test_a_tree_has_the_id_that_git_writes() -> None:
    # git write-tree of the same three files
    assert trees.folders(FILES)[""].oid == "3125cc2504f99ff31deeea7de83babde7b2d0d5b"


def test_a_folder_changes_with_what_it_holds() -> None:
    found = trees.folders(FILES)
    assert {path: folder.changed_in for path, folder in found.items()} == {"": 3, "a": 2, "a/b": 2}


def test_a_listing_is_flat_or_deep() -> None:
    def paths(folder: str, recursive: bool) -> list[str]:
        return [item.path for item in trees.listing(FILES, folder, recursive) or []]

    assert paths("", recursive=False) == ["a", "a-b", "a.txt"]
    assert paths("", recursive=True) == ["a", "a-b", "a.txt", "a/b", "a/b/c.txt"]
    assert paths("a", recursive=False) == ["a/b"]
    assert paths("a/b", recursive=True) == ["a/b/c.txt"]
    assert trees.listing(FILES, "a.txt", recursive=False) is None
    assert trees.listing({}, "", recursive=True) == []


def test_a_pointer_is_what_git_lfs_writes() -> None:
    assert lfs_pointer("a" * 64, 12) == (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"
    )
