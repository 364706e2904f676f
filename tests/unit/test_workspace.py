"""Work folders: found again, verified, never taken from under somebody's feet, and cleared up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.builds import BuildRequest, Target
from bot.errors import BuildCancelled, NotEnoughRoom, PhimillError
from bot.settings import Settings
from bot.workspace import Workspace

BUILD = BuildRequest(
    repo="microsoft/phi",
    sha="a" * 40,
    backend="gguf",
    namespace="me",
    toolchain="t" * 64,
    targets=(Target(repo="me/phi-GGUF", version="v1.0", recipes=("gguf/int4",)),),
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def space(home: Path) -> Workspace:
    return Workspace(Settings(home=home, disk_floor=0))


def filled(space: Workspace, folder: Path | None = None) -> Path:
    folder = folder or space.source_dir(BUILD)
    with space.making(folder):
        space.clear(folder)
        (folder / "sub").mkdir()
        (folder / "a.bin").write_bytes(b"weights")
        (folder / "sub" / "b").write_bytes(b"more")
        space.seal(folder, {"of": "phi"})
    return folder


def age(folder: Path, seconds: float) -> None:
    for path in folder.parent.glob(f"{folder.name}*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_the_same_thing_has_the_same_folder_and_another_another(space: Workspace) -> None:
    other = BUILD.model_copy(update={"sha": "b" * 40})
    folders = [
        space.source_dir(BUILD),
        space.source_dir(other),
        space.reference_dir(BUILD, "1"),
        space.reference_dir(BUILD, "2"),
        space.shared_dir(BUILD, "gguf", "1"),
        space.shared_dir(BUILD, "onnx", "1"),
        space.variant_dir(BUILD, "gguf/int4"),
        space.variant_dir(BUILD, "gguf/int8"),
        space.variant_dir(other, "gguf/int4"),
    ]
    assert len(set(folders)) == len(folders)
    assert space.source_dir(BUILD) == folders[0]
    assert all(folder.is_relative_to(space.root) for folder in folders)


def test_a_sealed_folder_is_found_again_with_its_facts_and_digests(space: Workspace) -> None:
    folder = filled(space)
    seal = space.sealed(folder, thorough=True)
    assert seal is not None
    assert seal.facts == {"of": "phi"}
    assert set(seal.files) == {"a.bin", "sub/b"}
    assert seal.files["a.bin"].size == 7
    assert not (folder / "a.bin").stat().st_mode & 0o222


def test_a_folder_without_a_seal_is_unfinished(space: Workspace) -> None:
    folder = space.clear(space.source_dir(BUILD))
    (folder / "a").write_text("x")
    assert space.sealed(folder) is None


@pytest.mark.parametrize("harm", ["other bytes", "shorter", "gone", "stranger", "link", "no seal", "seal is rubbish"])
def test_a_folder_that_is_not_what_it_was_must_be_made_again(space: Workspace, harm: str) -> None:
    folder = filled(space)
    folder.chmod(0o755)
    (folder / "a.bin").chmod(0o644)
    seal = folder.with_name(f"{folder.name}.json")
    harms: dict[str, Callable[[], object]] = {
        "other bytes": lambda: (folder / "a.bin").write_bytes(b"WEIGHTS"),
        "shorter": lambda: (folder / "a.bin").write_bytes(b"w"),
        "gone": lambda: (folder / "a.bin").unlink(),
        "stranger": lambda: (folder / "c").write_bytes(b""),
        "link": lambda: (folder / "c").symlink_to("/etc/passwd"),
        "no seal": lambda: seal.unlink(),
        "seal is rubbish": lambda: seal.write_text('{"files": 1}'),
    }
    harms[harm]()
    assert space.sealed(folder) is None


def test_a_byte_flipped_behind_an_unchanged_time_is_found_by_a_thorough_look(space: Workspace) -> None:
    folder = filled(space)
    file = folder / "a.bin"
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(b"weIghts")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert space.sealed(folder) is not None
    assert space.sealed(folder, thorough=True) is None


def test_a_touched_file_with_the_same_bytes_is_still_the_same(space: Workspace) -> None:
    folder = filled(space)
    os.utime(folder / "a.bin")
    assert space.sealed(folder) is not None


def test_a_link_in_a_folder_can_not_be_sealed(space: Workspace) -> None:
    folder = space.clear(space.source_dir(BUILD))
    (folder / "model.gguf").symlink_to("/etc/passwd")
    with pytest.raises(PhimillError, match=r"model\.gguf"):
        space.seal(folder, {})


def test_dropping_leaves_nothing(space: Workspace) -> None:
    folder = filled(space)
    assert space.drop(folder)
    assert list(folder.parent.iterdir()) == []


def test_who_waits_for_a_folder_that_is_dropped_gets_it_alone(space: Workspace) -> None:
    folder, inside = space.source_dir(BUILD), []

    def make(name: str) -> None:
        with space.making(folder):
            inside.append(name)
            assert len(inside) == 1
            time.sleep(0.05)
            inside.remove(name)

    def drop() -> None:
        for _ in range(50):
            space.drop(folder)

    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(drop), *(pool.submit(make, str(number)) for number in range(4))]:
            future.result()
    assert space.drop(folder)
    assert list(folder.parent.iterdir()) == []


def test_dropping_what_a_hostile_converter_left_works(space: Workspace) -> None:
    folder = space.clear(space.variant_dir(BUILD, "gguf/int4"))
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1100):  # deeper than Python's stack, and longer than any path may be
        os.mkdir("deeper", dir_fd=here)
        there = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    (folder / "locked").mkdir(mode=0o000)
    assert space.drop(folder)
    assert not folder.exists()


def test_what_somebody_reads_is_not_dropped(space: Workspace) -> None:
    folder = filled(space)
    with space.using(folder), space.using(folder):
        assert space.in_use(folder)
        assert not space.drop(folder)
        assert space.sealed(folder) is not None
    assert not space.in_use(folder)
    assert space.drop(folder)


USE = """
import sys, time
from pathlib import Path
from bot.settings import Settings
from bot.workspace import Workspace
space = Workspace(Settings(home=Path(sys.argv[1]), disk_floor=0))
with space.using(Path(sys.argv[2])):
    print("using", flush=True)
    time.sleep(60)
"""


def test_what_another_process_reads_is_not_dropped_until_it_is_killed(space: Workspace, home: Path) -> None:
    folder = filled(space)
    command = [sys.executable, "-c", USE, str(home), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "using\n"
        assert not space.drop(folder)
        child.kill()
        child.wait()
    assert space.drop(folder)


def test_only_one_makes_a_folder_and_the_others_wait(space: Workspace) -> None:
    folder, order = space.source_dir(BUILD), []

    def make(name: str) -> None:
        with space.making(folder):
            order.append(f"{name} in")
            time.sleep(0.05)
            order.append(f"{name} out")

    threads = [threading.Thread(target=make, args=(str(n),)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(order[i][0] == order[i + 1][0] for i in (0, 2, 4))


def test_waiting_can_be_cancelled(space: Workspace) -> None:
    folder = space.source_dir(BUILD)
    with space.making(folder), pytest.raises(BuildCancelled), space.making(folder, cancelled=lambda: True):
        pass


def test_a_sweep_takes_half_made_folders_and_what_nobody_has_used_for_long(space: Workspace) -> None:
    kept, old = filled(space), filled(space, space.reference_dir(BUILD, "old"))
    half = space.clear(space.variant_dir(BUILD, "gguf/int8"))
    shared = space.clear(space.shared_dir(BUILD, "gguf", "t"))
    resumable = space.clear(space.source_dir(BUILD.model_copy(update={"sha": "b" * 40})))
    forgotten = space.clear(space.source_dir(BUILD.model_copy(update={"sha": "c" * 40})))
    used = space.clear(space.variant_dir(BUILD, "gguf/int4"))
    age(old, 20 * 86400)
    age(forgotten, 20 * 86400)
    with space.using(used):
        assert set(space.sweep()) == {old, half, forgotten}
    assert kept.exists()
    assert resumable.exists()
    assert shared.exists()
    assert used.exists()


def test_the_half_written_seal_of_a_maker_that_was_killed_goes_with_its_folder(space: Workspace) -> None:
    made_again, gone = filled(space), space.reference_dir(BUILD, "gone")
    left = [folder.with_name(f".{folder.name}.json-0b91db187670") for folder in (made_again, gone)]
    for draft in left:
        draft.touch()
    with space.making(gone):
        assert space.sweep() == []
    assert all(draft.exists() for draft in left)
    assert space.sweep(retention=0) == [made_again, gone]
    assert not any(draft.exists() for draft in left)


def test_a_sweep_takes_what_killed_children_left_long_ago(space: Workspace) -> None:
    old, new = space.root / "tmp" / ".run-old", space.root / "tmp" / ".run-new"
    for left in (old, new):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    space.sweep()
    assert (old.exists(), new.exists()) == (False, True)


def test_room_is_made_by_dropping_what_was_not_used_for_longest(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = filled(space, space.reference_dir(BUILD, "1")), filled(space, space.reference_dir(BUILD, "2"))
    age(old, 1000)
    monkeypatch.setattr(Workspace, "free", lambda self: 50 + 50 * (not old.exists()))
    space.require(100)
    assert not old.exists()
    assert new.exists()


def test_too_little_disk_is_said_before_anything_is_written(home: Path) -> None:
    full = Workspace(Settings(home=home, disk_floor=2**60))
    with pytest.raises(NotEnoughRoom, match="disk"):
        full.require(1)
