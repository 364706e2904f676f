"""Takes secrets out of text that is kept or shown: those that this process knows, and whatever looks like one.

The log, the builds' own logs, and the words of every error pass through here.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

MASK = "***"
SHORTEST = 6  # characters; anything shorter would be found in ordinary text
_PLAIN = (int, float, bool, type(None))

# Names whose values are secret wherever they stand. Not `token`: in a model's files everything is called that.
_WORDS = ("password", "passwd", "secret", "api_key", "api-key", "access_token", "refresh_token", "id_token",
          "private_key", "code_verifier")  # fmt: skip
_NAMES = f"(?:{'|'.join(_WORDS)})"
_FIELD = re.compile(rf".*{_NAMES}|(?:proxy-)?authorization|(?:set-)?cookie|(?:hf_)?token", re.IGNORECASE)
_PARAMETERS = r"(?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|token|code)"
_ESCAPE = re.compile("%[0-9a-fA-F]{2}")
_KEY = "PRIVATE KEY-----"


def _without_jwt(found: re.Match[str]) -> str:
    return MASK if found[1] else found[0]


# A pattern is tried where one of its hints is in the text: a build's log is long, and secrets are rare. No pattern may
# look at a character again and again, for a converter can print what it likes.
_PATTERNS = tuple(
    (hints, re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for hints, pattern, replacement in (
        (("private key-----",), rf"-----BEGIN [A-Z ]*{_KEY}.*?(?:-----END [A-Z ]*{_KEY}|\Z)", MASK),
        (("hf_",), r"hf_oauth_[\w.-]+|hf_[a-z0-9]{20,}[\w-]*|hf_[\w-]{34,}", MASK),
        (("eyj",), r"eyJ[\w-]*+((?:\.[\w-]*+){2,}+)?", _without_jwt),
        (
            ("authorization",),
            r"""(authorization["']?(?:\s*[:=,]\s*|%3a)(?:%20|\+|b?["'])*(?:(?:bearer|basic|token)(?:\s|%20|\+)+)?)"""
            r"""[^\s"',;)}\]]+""",
            rf"\1{MASK}",
        ),
        (("bearer",), r"(bearer(?:\s|%20|\+)+)(?=[\w.~+/%-]{0,99}\d)[\w.~+/%-]{16,}=*", rf"\1{MASK}"),
        (("://",), r"""(://)[^\s/?#"'<>]+@""", rf"\1{MASK}@"),
        (("%3a%2f%2f",), r"""(%3a%2f%2f)(?:(?!%2f|%3f|%23)[^\s/?#&"'<>])+%40""", rf"\1{MASK}%40"),
        (("=",), rf"""([?&;]{_PARAMETERS}=)[^\s"'&<>#]+""", rf"\1{MASK}"),
        (("%3d",), rf"""((?:%3f|%26){_PARAMETERS}%3d)(?:(?!%26)[^\s"'&<>])+""", rf"\1{MASK}"),
        (_WORDS, rf"""({_NAMES}(?:=|%3d))[^\s"'&,;<>]{{{SHORTEST},}}""", rf"\1{MASK}"),
        (_WORDS, rf"""({_NAMES}["']\s*:\s*b?["'])[^"']+""", rf"\1{MASK}"),
    )
)


class Secrets:
    """The values that this process knows to be secret."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._known: tuple[tuple[frozenset[str], re.Pattern[str]], ...] = ()

    def learn(self, *values: str | None) -> None:
        """Keep these out of whatever is written from now on."""
        self._held_by(values, 1)

    def forget(self, *values: str | None) -> None:
        """These are not here any more, unless they were learnt more often than that."""
        self._held_by(values, -1)

    def _held_by(self, values: tuple[str | None, ...], by: int) -> None:
        with self._lock:
            for value in values:
                if value and len(value) >= SHORTEST:
                    self._held[value] += by
            self._held = +self._held
            # The longest first: one may be a part of another.
            self._known = tuple((_spelled(v), _encoded(v)) for v in sorted(self._held, key=len, reverse=True))

    def taken_out_of(self, text: str) -> str:
        """`text` without any of them, however they were quoted."""
        escapes = _ESCAPE.search(text)
        for spellings, encoded in self._known:
            for spelling in spellings:
                if spelling in text:
                    text = text.replace(spelling, MASK)
            if escapes:
                text = encoded.sub(MASK, text)
        return text


SECRETS = Secrets()


def redacted(text: str) -> str:
    """`text` without secrets."""
    text = SECRETS.taken_out_of(text)
    lower = text.lower()
    for hints, pattern, replacement in _PATTERNS:
        if any(hint in lower for hint in hints):
            text = pattern.sub(replacement, text)
    return text


def redacted_fields(value: Any) -> Any:
    """The same for fields of a log line, however deep: what is not plain data becomes text."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, bytes):
        return redacted(value.decode(errors="backslashreplace"))
    if isinstance(value, Mapping):
        return {redacted(str(name)): _field(name, item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
        if len(items) == 2 and isinstance(items[0], (str, bytes)):  # a header, as HTTP libraries keep it
            return [redacted_fields(items[0]), _field(items[0], items[1])]
        return [redacted_fields(item) for item in items]
    return value if isinstance(value, _PLAIN) else redacted(str(value))


def _field(name: object, value: Any) -> Any:
    word = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return MASK if isinstance(value, (str, bytes)) and _FIELD.fullmatch(word) else redacted_fields(value)


def _spelled(value: str) -> frozenset[str]:
    """How a value looks in text: as it is, inside quotes in Python and JSON, and in a form that was sent."""
    form = quote_plus(value, errors="surrogatepass")
    return frozenset(
        {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], form}
    )


def _encoded(value: str) -> re.Pattern[str]:
    """A value in a URL, with any of its characters percent-encoded."""

    def one(character: str) -> str:
        octets = "".join(f"%{octet:02x}" for octet in character.encode(errors="surrogatepass"))
        plus = r"|\+" if character == " " else ""
        return f"(?:{re.escape(character)}|(?i:{octets}){plus})"

    return re.compile("".join(map(one, value)))
