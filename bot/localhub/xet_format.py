"""The two binary formats a Xet client uploads, read from untrusted bytes.

Xorb: chunks one after the other, each an 8-byte header (version u8 = 0, compressed size u24, scheme u8,
uncompressed size u24, little-endian) and its data; a footer that starts with `XETBLOB` may follow, unread.
Shard: 48-byte records. A header; then per file a header, one record per term, as many verification records if
flagged, and a record with the file's SHA-256; then a bookend of 0xFF. What follows describes xorbs, for
deduplication, and is not needed here.

Source: the Xet protocol specification, version 1.0 (xorb and shard formats, hash-to-string conversion).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import lz4.frame

from bot.localhub.errors import BadRequestError

MAX_XORB = 64 * 1024 * 1024
MAX_CHUNK = 128 * 1024
MAX_FILES_PER_SHARD = 25_000

_RECORD = 48
_SHARD_TAG = b"HFRepoMetaData\0"
_SHARD_VERSION = 2
_FOOTER_IDENT = b"XETBLOB"
_BOOKEND = b"\xff" * 32
_HAS_VERIFICATION = 1 << 31
_HAS_SHA256 = 1 << 30
_RAW, _LZ4, _GROUPED_LZ4 = 0, 1, 2


class Chunk(NamedTuple):
    """Where one chunk lies in a xorb, and how it is packed."""

    offset: int
    packed: int
    scheme: int
    size: int


class Term(NamedTuple):
    """A run of a xorb's chunks, `start` to before `end`, that makes `size` bytes of a file."""

    xorb: str
    size: int
    start: int
    end: int


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard. Its terms are read when needed: a shard may hold millions."""

    sha256: str
    size: int
    terms_at: int
    term_count: int


def hash_hex(raw: bytes) -> str:
    """Return a 32-byte hash as text: four little-endian 64-bit words, each in hex."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def read_chunks(file: BinaryIO) -> list[Chunk]:
    """Return the chunks of a xorb.

    Raises:
        BadRequestError: a header is cut off or names an unknown scheme or an impossible size.
    """
    end = file.seek(0, 2)
    chunks: list[Chunk] = []
    position = 0
    while position < end:
        file.seek(position)
        header = file.read(8)
        if header.startswith(_FOOTER_IDENT):
            break
        if len(header) < 8:
            raise BadRequestError("The xorb ends inside a chunk header.")
        packed, size = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
        chunk = Chunk(position + 8, packed, header[4], size)
        _check_chunk(header[0], chunk, end)
        chunks.append(chunk)
        position = chunk.offset + packed
    if not chunks:
        raise BadRequestError("The xorb holds no chunks.")
    return chunks


def unpack(chunk: Chunk, data: bytes) -> bytes | bytearray:
    """Return a chunk's content from its packed `data`.

    Raises:
        BadRequestError: the data is damaged or does not unpack to exactly the announced size.
    """
    if chunk.scheme == _RAW:
        content = data
    else:
        try:
            # One byte more than announced is asked for, so that a bomb is seen and never unpacked.
            content = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=chunk.size + 1)
        except (RuntimeError, ValueError, EOFError) as error:
            raise BadRequestError("A chunk of the xorb does not decompress.") from error
    if len(content) != chunk.size:
        raise BadRequestError("A chunk of the xorb does not have the announced size.")
    return _ungroup(content) if chunk.scheme == _GROUPED_LZ4 else content


def read_shard(file: BinaryIO) -> list[ShardFile]:
    """Return the files that a shard describes.

    Raises:
        BadRequestError: it is not a shard, is cut off, or describes a file without its SHA-256.
    """
    header = _record(file)
    if not header.startswith(_SHARD_TAG) or struct.unpack_from("<Q", header, 32)[0] != _SHARD_VERSION:
        raise BadRequestError("This is not a shard of version 2.")
    files: list[ShardFile] = []
    while not (header := _record(file)).startswith(_BOOKEND):
        if len(files) >= MAX_FILES_PER_SHARD:
            raise BadRequestError(f"A shard may describe at most {MAX_FILES_PER_SHARD} files.")
        flags, count = struct.unpack_from("<II", header, 32)
        terms_at = file.tell()
        size = sum(_term(_record(file)).size for _ in range(count))
        if flags & _HAS_VERIFICATION:
            file.seek(count * _RECORD, 1)
        if not flags & _HAS_SHA256:
            raise BadRequestError("A file in the shard has no SHA-256: this Hub cannot store it.")
        files.append(ShardFile(hash_hex(_record(file)[:32]), size, terms_at, count))
    return files


def read_terms(file: BinaryIO, described: ShardFile) -> Iterator[Term]:
    """Yield the terms of one file of a shard, in file order."""
    for index in range(described.term_count):
        file.seek(described.terms_at + index * _RECORD)
        yield _term(_record(file))


def _check_chunk(version: int, chunk: Chunk, end: int) -> None:
    if version != 0 or chunk.scheme not in (_RAW, _LZ4, _GROUPED_LZ4):
        raise BadRequestError("The xorb holds a chunk of an unknown version or compression.")
    if not 0 < chunk.size <= MAX_CHUNK or not 0 < chunk.packed <= MAX_CHUNK:
        raise BadRequestError("The xorb holds a chunk of an impossible size.")
    if chunk.offset + chunk.packed > end:
        raise BadRequestError("The xorb ends inside a chunk.")


def _ungroup(content: bytes) -> bytearray:
    """Undo byte grouping: all first bytes of each 4, then all second bytes, and so on."""
    plain = bytearray(len(content))
    position = 0
    for index in range(4):
        share = len(range(index, len(content), 4))
        plain[index::4] = content[position : position + share]
        position += share
    return plain


def _term(record: bytes) -> Term:
    size, start, end = struct.unpack_from("<III", record, 36)
    return Term(hash_hex(record[:32]), size, start, end)


def _record(file: BinaryIO) -> bytes:
    record = file.read(_RECORD)
    if len(record) < _RECORD:
        raise BadRequestError("The shard is cut off.")
    return record
