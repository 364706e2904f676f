from __future__ import annotations

import os
from pathlib import Path

import pytest

from converters.files import complete_file, key_of, sweep


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "model.gguf"
    with complete_file(target) as partial:
        partial.write_bytes(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert [p.name for p in target.parent.iterdir()] == ["model.gguf"]


def fail_half_way(target: Path) -> None:
    with complete_file(target) as partial:
        partial.write_bytes(b"new")
        raise RuntimeError


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        fail_half_way(target)
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "kept.gguf").touch()
    child = os.fork()
    if child == 0:
        with complete_file(tmp_path / "model.gguf") as partial:
            partial.write_bytes(b"half")
            os._exit(9)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.gguf"]


def test_a_key_depends_on_every_part_and_on_nothing_else() -> None:
    assert key_of("a", {"x": 1, "y": 2}) == key_of("a", {"y": 2, "x": 1})
    assert key_of("a", "b") != key_of("ab")
