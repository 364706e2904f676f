"""What the errors say that do not come from phimill itself."""

from __future__ import annotations

import errno

import pytest

from bot.errors import NotEnoughRoom, of_the_disk


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EROFS, "can only be read")],
)
def test_trouble_with_the_disk_is_told_as_such(number: int, says: str) -> None:
    said = of_the_disk(OSError(number, "it broke"))
    assert isinstance(said, NotEnoughRoom)
    assert says in said.message
    assert said.hint


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), ValueError("no"), OSError("no")])
def test_other_trouble_is_not_put_down_to_the_disk(error: Exception) -> None:
    assert of_the_disk(error) is None
