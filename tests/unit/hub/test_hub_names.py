"""Names and paths."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub.errors import BadRequestError
from bot.localhub.names import check_name, check_namespace, check_path, check_ref


@pytest.mark.parametrize("name", ["a", "Phi-4-mini_instruct.v1", "0x", "x" * 96, "a_"])
def test_a_usual_name_is_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "-a", "a-", "a.", ".a", "a--b", "a..b", "a/b", "a b", "x" * 97, "a.git", "a.GIT", "é"],
)
def test_a_name_the_hub_forbids_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError):
        check_name(name)


@pytest.mark.parametrize("name", ["api", "API", "cas", "lfs", "datasets", "spaces", "collections", "static"])
def test_a_namespace_does_not_shadow_a_route(name: str) -> None:
    with pytest.raises(BadRequestError, match="reserved"):
        check_namespace(name)


@pytest.mark.parametrize("name", ["v1.0", "main", "feature/x", "v1.0+build", "1"])
def test_a_usual_ref_is_taken(name: str) -> None:
    assert check_ref(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a..b", "a b", "/a", "a/", "a//b", "a.lock", "a.", "refs/tags/a", "a~1", "0" * 40, "a/.b"],
)
def test_a_ref_that_git_forbids_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError):
        check_ref(name)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "...", ".gitattributes", "ä ö/ü", "a/..b", "x" * 255])
def test_a_usual_path_is_taken(path: str) -> None:
    assert check_path(path) == path


@given(st.text(max_size=60) | st.text(alphabet="/.\\aC:\0", max_size=20))
def test_a_path_that_is_taken_stays_below_its_folder(path: str) -> None:
    try:
        check_path(path)
    except BadRequestError:
        return
    assert posixpath.normpath(path) == path
    assert path.split("/")[0] not in ("", "..")
    assert not set(path) & {"\\", "\0", "\n"}
