"""Byte ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub.errors import RangeNotSatisfiableError
from bot.localhub.ranges import parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("", None), ("bytes=-", None), ("bytes=5-2", None), ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=0-", (0, 10)), ("bytes=0-99", (0, 10)), ("bytes=9-9", (9, 10)), ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)), ("bytes= 2 - 3", (2, 4)), ("bytes=\u0661-", None),
    ],
)  # fmt: skip
def test_a_range_of_ten_bytes(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_outside_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiableError) as failure:
        parse_range(header, 10)
    assert failure.value.headers["Content-Range"] == "bytes */10"


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=40), st.integers(0, 2**63))
def test_a_range_lies_inside_the_content(header: str, size: int) -> None:
    try:
        span = parse_range(header, size)
    except RangeNotSatisfiableError:
        return
    assert span is None or 0 <= span[0] < span[1] <= size
