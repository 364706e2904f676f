"""The `Range` request header (RFC 9110, section 14.2), for one range of bytes."""

from __future__ import annotations

import re

from bot.localhub.errors import RangeNotSatisfiableError

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last, or None for the whole of `size` bytes.

    A header that is malformed or asks for several ranges is ignored, as the RFC allows.

    Raises:
        RangeNotSatisfiableError: the range lies outside the content.
    """
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return None
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= stop:
        raise RangeNotSatisfiableError(f"The content has {size} bytes.", headers={"Content-Range": f"bytes */{size}"})
    return start, stop
