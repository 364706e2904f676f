"""Reading xorbs and shards: what the client writes is understood, what anybody else writes does no harm."""

from __future__ import annotations

import io
import struct

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.localhub.errors import BadRequestError
from bot.localhub.xet_format import MAX_CHUNK, Chunk, hash_hex, read_chunks, read_shard, read_terms, unpack

HEADER = b"HFRepoMetaData\0".ljust(32, b"\x55") + struct.pack("<QQ", 2, 0)
BOOKEND = b"\xff" * 32 + bytes(16)


def packed_chunk(data: bytes, scheme: int, size: int) -> bytes:
    return b"\0" + len(data).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + data


def group(content: bytes) -> bytes:
    return b"".join(content[index::4] for index in range(4))


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=500), st.sampled_from([0, 1, 2])), min_size=1, max_size=9))
def test_chunks_come_out_as_they_went_in(contents: list[tuple[bytes, int]]) -> None:
    xorb = b""
    for content, scheme in contents:
        data = {0: content, 1: lz4.frame.compress(content), 2: lz4.frame.compress(group(content))}[scheme]
        xorb += packed_chunk(data, scheme, len(content))
    chunks = read_chunks(io.BytesIO(xorb + b"XETBLOB with a footer"))
    found = [unpack(chunk, xorb[chunk.offset : chunk.offset + chunk.packed]) for chunk in chunks]
    assert found == [content for content, _ in contents]


@given(st.binary(max_size=400))
def test_any_bytes_are_read_as_a_xorb_or_refused(data: bytes) -> None:
    try:
        chunks = read_chunks(io.BytesIO(data))
    except BadRequestError:
        return
    for chunk in chunks:
        assert 0 < chunk.size <= MAX_CHUNK
        assert chunk.offset + chunk.packed <= len(data)


@given(st.binary(max_size=400), st.sampled_from([1, 2]), st.integers(1, MAX_CHUNK))
def test_any_bytes_unpack_to_the_announced_size_or_are_refused(data: bytes, scheme: int, size: int) -> None:
    try:
        content = unpack(Chunk(0, len(data), scheme, size), data)
    except BadRequestError:
        return
    assert len(content) == size


def test_a_bomb_is_not_unpacked() -> None:
    bomb = lz4.frame.compress(bytes(64_000_000))
    with pytest.raises(BadRequestError, match="announced size"):
        unpack(Chunk(0, len(bomb), 1, 1000), bomb)


def test_a_hash_is_four_swapped_words() -> None:
    assert hash_hex(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"


def test_a_shard_tells_its_files_and_their_terms() -> None:
    def file(fill: int, flags: int) -> bytes:
        terms = [bytes([fill]) * 32 + struct.pack("<IIII", 0, 100 + n, n, n + 2) for n in range(2)]
        verification = [b"\7" * 48] * 2 if flags & 1 << 31 else []
        head = bytes(32) + struct.pack("<IIQ", flags, 2, 0)
        return b"".join([head, *terms, *verification, bytes([fill]) * 32 + bytes(16)])

    stream = io.BytesIO(HEADER + file(1, 1 << 30) + file(2, 1 << 30 | 1 << 31) + BOOKEND + b"xorb descriptions")
    first, second = read_shard(stream)
    assert (first.sha256, first.size) == ("01" * 32, 201)
    assert (second.sha256, second.size) == ("02" * 32, 201)
    assert [(term.xorb, *term[1:]) for term in read_terms(stream, second)] == [
        ("02" * 32, 100, 0, 2),
        ("02" * 32, 101, 1, 3),
    ]


@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_are_read_as_a_shard_or_refused(data: bytes, headed: bool) -> None:
    stream = io.BytesIO((HEADER if headed else b"") + data)
    try:
        files = read_shard(stream)
    except BadRequestError:
        return
    for file in files:
        assert len(list(read_terms(stream, file))) == file.term_count


def test_a_shard_that_promises_billions_of_terms_ends_at_once() -> None:
    promise = bytes(32) + struct.pack("<IIQ", 1 << 30, 2**32 - 1, 0)
    with pytest.raises(BadRequestError, match="cut off"):
        read_shard(io.BytesIO(HEADER + promise))


def test_a_shard_of_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.localhub.xet_format.MAX_FILES_PER_SHARD", 3)
    file = bytes(32) + struct.pack("<IIQ", 1 << 30, 0, 0) + bytes(48)
    assert len(read_shard(io.BytesIO(HEADER + file * 3 + BOOKEND))) == 3
    with pytest.raises(BadRequestError, match="at most 3"):
        read_shard(io.BytesIO(HEADER + file * 4 + BOOKEND))
