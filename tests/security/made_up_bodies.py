"""Bodies for made-up requests: JSON with the fields that the Hub reads, commits, forms, and what is none of these."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import strategies as st

HIDDEN, ABSENT = "hidden-1", "absent-1"
ORG = "phimill"
SHA = "0f" * 32

Some = st.SearchStrategy[object]


def mostly(likely: Some, other: Some) -> Some:
    """What gets a request far into the Hub, and now and then something else."""
    return st.integers(0, 9).flatmap(lambda at: other if at == 9 else likely)


def one_of(*likely: object) -> Some:
    """One of these, and now and then anything."""
    return mostly(st.sampled_from(likely), odd)


_ODD = (
    *("", ".", "..", "../..", "../../etc/passwd", "/etc/passwd", "%2e%2e%2f", "a\\b", "C:\\x", "a\0b", "a\nb", "-rf"),
    *("\x1b[2J", "\u202egnp", "é", "\U0001f600", "con", "x" * 300, "x" * 5000, "refs/pr/1", "refs/heads/main"),
    *("' OR 1=1 --", "{{ 7 * 7 }}", "<script>", "null", "0", "-1", "NaN", "9" * 40, "api", ".git", "main:x", "~root"),
)
odd = st.sampled_from(_ODD) | st.text(max_size=12)
# Half a character: JSON can say it, and nothing can send it.
texts = mostly(odd, st.sampled_from(["\ud800", "a\udfffb"]))
repos = mostly(
    st.sampled_from([(ORG, HIDDEN), (ORG, "open"), (ORG, "gated"), *[("eve", "eves")] * 4, ("EVE", "eves")]),
    st.tuples(odd, odd),
)
repo_names = one_of(HIDDEN, "open", "gated", "eves", "new")
owners = one_of(ORG, "eve", "eve", "EVE", "miller")
full_names = one_of(f"{ORG}/{HIDDEN}", f"{ORG}/open", "eve/eves", "eve/eves", "eve/new", f"{ORG}/new")
paths = one_of("README.md", "sub/a.txt", "weights.safetensors", "new.txt", "sub", "x/../y")
numbers = st.sampled_from([0, 1, 7, -1, 2**26, 2**33, 2**70])
any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd, inner, max_size=3),
    max_leaves=6,
)


def _list(**fields: Some) -> Some:
    return st.lists(st.fixed_dictionaries(fields), max_size=3)


def _table(**fields: Some) -> Some:
    return st.fixed_dictionaries(fields)


_TEXTS = ("message", "title", "description", "note", "value", "organization", "secret", "key")
_NAMED = {
    "name": repo_names,
    "organization": owners,
    "namespace": owners,
    "fromRepo": full_names,
    "toRepo": full_names,
}
_CARDS = ("---\nlicense: mit\n---\n", "---\na: &a [*a]\n---\n", "---\n? [" * 99)
FIELDS: dict[str, Some] = {
    **dict.fromkeys(_TEXTS, texts),
    **_NAMED,
    "type": one_of("model", "model", "space", "org"),
    "private": st.booleans(),
    "gated": st.sampled_from(["auto", False, 0]),
    "visibility": one_of("public", "private"),
    "sdk": one_of("gradio", "static"),
    "tag": one_of("v2.0", "v1.0"),
    "startingPoint": one_of("main", "v1.0", "@commit@"),
    "theme": one_of("blue"),
    "position": numbers,
    "item": _table(type=one_of("model"), id=full_names),
    "url": st.sampled_from(["http://127.0.0.1:9/", "file:///etc/passwd", "http://[", "http://127.0.0.1:99999/"]),
    "watched": _list(type=one_of("org", "user", "model"), name=owners),
    "domains": st.just(["repo"]),
    "flavor": one_of("t4-small"),
    "hardware": one_of("t4-small"),
    "seconds": numbers,
    "secrets": _list(key=one_of("KEY"), value=texts),
    "paths": st.lists(paths, max_size=3),
    "expand": st.booleans(),
    "content": one_of(*_CARDS),
    "repoType": one_of("model", "space"),
    "operation": st.just("upload"),
    "objects": _list(oid=one_of(SHA), size=numbers),
    "files": _list(path=paths, size=numbers, sample=one_of("aGk="), sha256=one_of(SHA)),
    "target": _table(type=one_of("model"), name=full_names),
    "parts": _list(partNumber=numbers, etag=odd),
}
_FORM = (
    *(
        "client_id",
        "client_secret",
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "decision",
        "user",
        "token",
    ),
    *("response_type", "scope", "state", "paths", "expand"),
)
values = one_of(
    *(
        "1",
        "true",
        "100",
        "@client@",
        "https://app.test/back",
        "http://[",
        "code",
        "openid profile",
        "approve",
        "S256",
    ),
    *("lastModified", "gguf", "cardData", "runtime", f"models/{ORG}/{HIDDEN}", HIDDEN, ORG, "authorization_code"),
)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


objects = st.fixed_dictionaries({}, optional={name: mostly(some, any_json) for name, some in FIELDS.items()}).map(
    encoded
)

_header = st.fixed_dictionaries(
    {"summary": one_of("change")}, optional={"description": texts, "parentCommit": mostly(st.just("@commit@"), texts)}
)
_CONTENTS = (
    {"content": "aGVsbG8=", "encoding": "base64"},
    {"content": "---\nlicense: mit\n---\n# Card <script>"},
    {"content": '{"architectures": [["x"]], "a": ' + "[" * 400 + "]" * 400 + "}"},
    {"content": "[" * 2000},
    {"oid": SHA, "size": 7},
)
_change = mostly(
    st.builds(lambda path, content: {"path": path, **content}, paths, st.sampled_from(_CONTENTS)),
    st.fixed_dictionaries({"path": texts}, optional={"content": texts, "algo": odd, "oid": odd, "encoding": odd}),
)
_kind = mostly(
    st.just("file"), st.sampled_from(["lfsFile", "deletedFile", "deletedFolder", "no such thing", "header"])
)


def _lines(header: object, changes: list[tuple[object, object]]) -> bytes:
    lines = [("header", header), *changes]
    return b"\n".join(encoded({"key": key, "value": value}) for key, value in lines)


commits = st.builds(_lines, _header, st.lists(st.tuples(_kind, _change), max_size=4))
forms = st.lists(st.tuples(st.sampled_from(_FORM), values), max_size=5).map(
    lambda pairs: "&".join(f"{name}={quote(str(value), safe='@')}" for name, value in pairs).encode()
)
packed = st.sampled_from([
    b"HFRepoMetaData\0" + bytes(17) + (2).to_bytes(8, "little") + bytes(8) + b"\xff" * 48,
    *(b"\0\2\0\0\0\2\0\0hi", b"\0\2\0\0\1\2\0\0hi", b"XETBLOB\0", b"\x1f\x8b\x08", b"\0" * 100_000),
])  # fmt: skip
_WHOLE = objects | commits | forms | packed | any_json.map(encoded) | st.binary(max_size=60) | st.just(b"")
_MEANT = {"/commit/": commits, "/oauth/": forms, "/cas/": packed}


def bodies(path: str) -> Some:
    """What the route of that path takes, or nearly; now and then something else, or less than the whole."""
    found = mostly(next((meant for part, meant in _MEANT.items() if part in path), objects), _WHOLE)
    return mostly(found, st.builds(lambda data, end: data[:end], found, st.integers(0, 99)))
