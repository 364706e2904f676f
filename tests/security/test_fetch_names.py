"""Names from a repo become paths on our disk: whatever a listing says, nothing is written outside the folder."""

from __future__ import annotations

from pathlib import Path

import phi_repos
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phi_repos import FolderHub

from bot import catalog, filenames
from bot.errors import PhimillError, SourceCorrupt
from bot.fetch import fetch
from bot.models import RepoRef, SourceFile
from bot.settings import Settings
from bot.workspace import Workspace

HOSTILE = [
    "../evil.safetensors",
    "/etc/evil.safetensors",
    "a/../../evil.safetensors",
    "./evil.safetensors",
    "a//evil.safetensors",
    "C:\\evil.safetensors",
    "C:evil.safetensors",
    "\\\\server\\share\\evil.safetensors",
    "..\\evil.safetensors",
    "evil\x00.safetensors",
    "evil\n.safetensors",
    "evil\u202e.safetensors",
    "évil.safetensors",
    "con.safetensors",
    "NUL",
    "LPT1.safetensors",
    "evil.safetensors.",
    "evil.safetensors ",
    "evil:stream.safetensors",
    "a" * 300 + ".safetensors",
    "",
    "..",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(SourceCorrupt):
        filenames.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model-00001-of-00002.safetensors",
        "cpu_and_mobile/cpu-int4/model.onnx.data",
        "vocab (1).json",
    ],
)
def test_an_ordinary_name_is_kept(name: str) -> None:
    assert filenames.check(name).as_posix() == name


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["..", "/", "\\", "a", ":", ".", "\0"]), max_size=8).map("".join)
)
def test_whatever_is_accepted_stays_inside(name: str) -> None:
    try:
        path = filenames.check(name)
    except SourceCorrupt:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not path.is_absolute()
    assert Path("/base", path).resolve().is_relative_to("/base")


class Lying(FolderHub):
    """Lists one file under a hostile name."""

    name = ""

    def tree(self, repo: str, sha: str) -> tuple[SourceFile, ...]:
        evil = SourceFile(path=self.name, size=4, digest="0" * 64)
        return (*super().tree(repo, sha), evil)


@pytest.mark.parametrize("name", [n for n in HOSTILE if filenames.kind(n) != "ignored"])
def test_a_listing_with_a_hostile_name_is_no_release(name: str, tmp_path: Path) -> None:
    hub = Lying(phi_repos.write("phi3_mini_4k", tmp_path / "repo"))
    hub.name = name
    with pytest.raises(SourceCorrupt, match="named"):
        catalog.release(hub, RepoRef(repo="microsoft/phi"))


@pytest.mark.parametrize("name", [*HOSTILE, "Config.json"])
def test_a_release_with_a_hostile_name_writes_nothing_outside_its_folder(name: str, tmp_path: Path) -> None:
    """As if such a release had been stored before the rule existed."""
    hub = FolderHub(phi_repos.write("phi3_mini_4k", tmp_path / "repo"))
    release = catalog.release(hub, RepoRef(repo="microsoft/phi"))
    evil = SourceFile(path=name, size=4, digest="0" * 64)
    space = Workspace(Settings(home=tmp_path / "home", disk_floor=0))
    before = {path for path in tmp_path.rglob("*") if "home" not in path.parts}
    try:
        folder = fetch(hub, release.model_copy(update={"files": (*release.files, evil)}), space)
    except PhimillError:
        pass
    else:
        assert not (folder / "evil.safetensors").exists()
    assert {path for path in tmp_path.rglob("*") if "home" not in path.parts} == before


def test_two_names_that_are_one_file_on_some_disks_are_refused() -> None:
    listed = tuple(SourceFile(path=name, size=1, digest="0" * 64) for name in ("a.safetensors", "A.safetensors"))
    with pytest.raises(SourceCorrupt, match="both"):
        filenames.check_all(listed)
