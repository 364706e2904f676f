"""The Xet store against somebody who does not use the client."""

from __future__ import annotations

import hashlib
import struct
import time
from typing import Any
from urllib.parse import urlsplit

import lz4.frame
import pytest
from hub_http import Answer, Http
from huggingface_hub import HfApi

from bot.localhub import RunningHub

TAG = b"HFRepoMetaData\0".ljust(32, b"\x55")
HAS_SHA256 = 1 << 30


def chunk(content: bytes, scheme: int = 0, packed: bytes | None = None, size: int | None = None) -> bytes:
    data = content if packed is None else packed
    length = len(content) if size is None else size
    return b"\0" + len(data).to_bytes(3, "little") + bytes([scheme]) + length.to_bytes(3, "little") + data


def raw_hash(name: str) -> bytes:
    return struct.pack("<4Q", *(int(name[start : start + 16], 16) for start in range(0, 64, 16)))


def shard(sha256: str, *terms: tuple[str, int, int, int], flags: int = HAS_SHA256) -> bytes:
    records = [TAG + struct.pack("<QQ", 2, 0), bytes(32) + struct.pack("<IIQ", flags, len(terms), 0)]
    records += [raw_hash(xorb) + struct.pack("<IIII", 0, *rest) for xorb, *rest in terms]
    if flags & HAS_SHA256:
        records.append(raw_hash(sha256) + bytes(16))
    return b"".join([*records, b"\xff" * 32 + bytes(16)])


class Cas:
    """A writer's access to the store."""

    def __init__(self, http_call: Http, hub: RunningHub, repo: str, user: str = "miller") -> None:
        self._call = http_call
        grant = http_call("GET", f"/api/models/{repo}/xet-write-token/main", None, hub.token(user)).json()
        self.path = urlsplit(grant["casUrl"]).path
        self.token: str = grant["accessToken"]

    def xorb(self, body: bytes, name: str | None = None, **changes: Any) -> Answer:
        name = name or hashlib.sha256(body).hexdigest()
        path = f"{changes.get('path', self.path)}/v1/xorbs/default/{name}"
        return self._call("POST", path, body, changes.get("token", self.token))

    def shard(self, body: bytes) -> Answer:
        return self._call("POST", f"{self.path}/v1/shards", body, self.token)


@pytest.fixture
def cas(http_call: Http, hub: RunningHub, repo: str) -> Cas:
    """A writer of a fresh repository."""
    return Cas(http_call, hub, repo)


def test_a_hand_made_upload_works(cas: Cas, hub: RunningHub) -> None:
    """Without this, the refusals below would prove nothing."""
    content = b"abcdefg" * 1000
    grouped = b"".join(content[index::4] for index in range(4))
    body = chunk(content) + chunk(content, 1, lz4.frame.compress(content))
    body += chunk(content, 2, lz4.frame.compress(grouped)) + b"XETBLOB\x01 a footer"
    name = "0123456789abcdef" * 4
    assert cas.xorb(body, name).json() == {"was_inserted": True}
    assert cas.xorb(body, name).json() == {"was_inserted": False}
    sha256 = hashlib.sha256(content * 3).hexdigest()
    answer = cas.shard(shard(sha256, (name, 14000, 0, 2), (name, 7000, 2, 3)))
    assert (answer.status, answer.json()) == (200, {"result": 1})
    assert (hub.root / "blobs" / sha256[:2] / sha256).read_bytes() == content * 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\1",
        chunk(b"x" * 10)[:-1],
        chunk(b""),
        chunk(b"x", scheme=9),
        b"\1" + chunk(b"x")[1:],
        chunk(b"x", size=200_000),
        chunk(b"x" * 200_000),
        b"GET / HTTP/1.1",
    ],
)
def test_a_xorb_that_cannot_be_one_is_refused(cas: Cas, body: bytes) -> None:
    answer = cas.xorb(body)
    assert answer.status == 400
    assert "xorb" in answer.json()["error"]


def test_a_xorb_over_the_limit_is_refused(cas: Cas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.localhub.routes.xet.MAX_XORB", 1000)
    monkeypatch.setattr("bot.localhub.routes.xet._XORB_SLACK", 0)
    assert cas.xorb(chunk(b"x" * 2000)).status == 413


@pytest.mark.parametrize(
    ("packed", "scheme", "size"),
    [
        (b"not lz4 at all", 1, 100),
        (lz4.frame.compress(b"x" * 100)[:-9], 1, 100),
        (lz4.frame.compress(b"x" * 100), 1, 99),
        (lz4.frame.compress(b"x" * 100), 2, 101),
        (lz4.frame.compress(bytes(50_000_000)), 1, 131_072),
    ],
)
def test_a_chunk_that_does_not_unpack_is_refused(cas: Cas, packed: bytes, scheme: int, size: int) -> None:
    body = chunk(b"", scheme, packed[:131_072], size)
    name = hashlib.sha256(body).hexdigest()
    assert cas.xorb(body, name).status == 200
    assert cas.shard(shard("0" * 64, (name, size, 0, 1))).status == 400


def test_a_shard_that_lies_is_refused(cas: Cas, hub: RunningHub) -> None:
    content = b"content" * 100
    body = chunk(content)
    name, sha256 = hashlib.sha256(body).hexdigest(), hashlib.sha256(content).hexdigest()
    assert cas.xorb(body, name).status == 200
    for lie in (
        shard("0" * 64, (name, 700, 0, 1)),
        shard(sha256, (name, 701, 0, 1)),
        shard(sha256, (name, 700, 0, 2)),
        shard(sha256, (name, 700, 1, 1)),
        shard(sha256, (name, 0, 1, 0)),
        shard(sha256, ("f" * 64, 700, 0, 1)),
        shard(sha256, (name, 700, 0, 1), flags=0),
        shard(sha256, (name, 700, 0, 1))[:-60],
        b"", b"\xff" * 500, b"HFRepoMetaData",
    ):  # fmt: skip
        answer = cas.shard(lie)
        assert answer.status == 400
        assert answer.json()["error"]
    assert not (hub.root / "blobs" / sha256[:2] / sha256).exists()
    assert cas.shard(shard(sha256, (name, 700, 0, 1))).status == 200


def test_a_shard_that_would_fill_the_disk_is_refused_before_its_parts_are_looked_for(cas: Cas) -> None:
    terms = [("f" * 64, 2**32 - 1, 0, 8000)] * 20_000
    assert cas.shard(shard("0" * 64, *terms)).status == 413


def test_the_store_needs_its_own_token(cas: Cas, hub: RunningHub, http_call: Http, api: HfApi) -> None:
    body = chunk(b"x")
    tampered = cas.token[:-1] + ("0" if cas.token[-1] != "0" else "1")
    for wrong in ("", "x", "a.b", tampered, hub.token("miller")):
        assert cas.xorb(body, token=wrong).status == 401
    assert http_call("POST", f"{cas.path}/v1/shards", b"").status == 401


def test_a_token_expires(cas: Cas, monkeypatch: pytest.MonkeyPatch) -> None:
    late = time.time() + 3601
    monkeypatch.setattr("bot.localhub.signing.time.time", lambda: late)
    assert cas.xorb(chunk(b"x")).status == 401


def test_a_token_opens_only_its_owners_part_of_the_store(
    cas: Cas, http_call: Http, hub: RunningHub, eve: HfApi, repo: str
) -> None:
    own = f"eve/{repo.partition('/')[2]}"
    eve.create_repo(own)
    hers = Cas(http_call, hub, own, "eve")
    assert hers.xorb(chunk(b"x"), path=cas.path).status == 403
    assert cas.xorb(chunk(b"mine"), "a" * 64).status == 200
    sha256 = hashlib.sha256(b"mine").hexdigest()
    assert hers.shard(shard(sha256, ("a" * 64, 4, 0, 1))).status == 400


def test_a_replaced_store_and_a_bad_name_are_not_served(cas: Cas) -> None:
    assert cas.xorb(chunk(b"x"), path="/cas/0000000000000000/miller").status == 404
    for name in ("..%2F..%2Fhub.json", "A" * 64, "a" * 63):
        assert cas.xorb(chunk(b"x"), name).status == 400
