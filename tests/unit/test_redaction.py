"""No secret comes out of a text, whatever stands around it; and a text without one comes out as it was."""

from __future__ import annotations

import base64
import json
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from bot.builds import Failure
from bot.errors import HubError
from bot.journal import Journal
from bot.redaction import MASK, SECRETS, SHORTEST, redacted, redacted_fields
from bot.settings import Settings
from bot.tokens import Keyring

LETTERS = string.ascii_letters + string.digits
WEB = LETTERS + "-_"
NAMES = ["access_token", "refresh_token", "id_token", "client_secret", "password", "api_key", "code_verifier"]
PARAMETERS = ["X-Amz-Signature", "X-Amz-Security-Token", "Signature", "sig", "token", "code"]

around = st.text(max_size=40)
# What is at most three asterisks long is not told from the mask.
values = st.text(st.characters(exclude_characters="*", exclude_categories=["Cs"]), min_size=SHORTEST, max_size=40)


def opaque(alphabet: str = LETTERS, least: int = 34, most: int = 50) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


@st.composite
def looking_like_secrets(draw: st.DrawFn) -> tuple[str, str]:
    """A secret, and a text in which one knows it for one."""
    secret = draw(opaque())
    url_safe = "hf_" + draw(opaque(WEB, 36, 36))
    jwt = ".".join(["eyJ" + draw(opaque(WEB, 10)), draw(opaque(WEB)), draw(opaque(WEB))])
    basic = base64.b64encode(draw(st.binary(min_size=9, max_size=40))).decode()
    name, parameter = draw(st.sampled_from(NAMES)), draw(st.sampled_from(PARAMETERS))
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----"
    return draw(
        st.sampled_from([
            (f"hf_{secret}", f"hf_{secret}"),
            (url_safe, url_safe),
            (jwt, jwt),
            (f"hf_oauth_{jwt}", f"hf_oauth_{jwt}"),
            (secret, f"Authorization: Bearer {secret} "),
            (secret + "1", f"Bearer {secret}1 "),
            (basic, f"authorization: Basic {basic} "),
            (basic, f"(b'Authorization', b'Basic {basic}')"),
            (secret, f"postgresql+psycopg://mill:{secret}@db.example/mill"),
            (secret, f"https://{secret}@example.org/simple"),
            (secret, f"https://bucket.example/file?{parameter}={secret}&X-Amz-Date=20261128T000000Z"),
            (secret, f"{name}={secret}&grant_type=x"),
            (secret, json.dumps({name: secret})),
            (secret, repr({name: secret})),
            (secret, pem),
            (secret, pem.replace("\n", "\\n")),
        ])
    )  # fmt: skip


@given(looking_like_secrets(), around, around)
def test_what_looks_like_a_secret_never_comes_out(found: tuple[str, str], before: str, after: str) -> None:
    secret, text = found
    assume(secret not in before + after)
    assert secret not in redacted(before + text + after)


@given(looking_like_secrets(), around, around)
def test_nor_does_it_percent_encoded(found: tuple[str, str], before: str, after: str) -> None:
    secret, text = found
    assume(secret not in before + after)
    assume("PRIVATE KEY" not in text and not text.startswith(("{", "(")))  # nobody has those in a URL
    for quoted in (quote(text, safe=""), quote_plus(text), f"https://example.org/login?next={quote(text, safe='')}"):
        out = redacted(f"{before} {quoted} {after}")
        assert secret not in out
        assert quote(secret, safe="") not in out


@pytest.fixture
def known() -> Iterator[list[str]]:
    """Secrets that are known as long as a test takes."""
    learnt: list[str] = []
    yield learnt
    SECRETS.forget(*learnt)


def spellings(value: str) -> list[str]:
    lower = quote(value, safe="").replace("%2F", "%2f")
    plain = [value, quote(value), quote(value, safe=""), quote_plus(value), lower]
    return [*plain, repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False), str([value])]


@given(values, around, around)
@example("q\"'uote", "", "")
@example("back\\slash", "", "")
@example("p@ss/w?rd#1", "postgresql://mill:", "@db/mill")
@example("hf_ab%20cd+ ef", "", "")
def test_what_is_known_to_be_secret_never_comes_out(value: str, before: str, after: str) -> None:
    SECRETS.learn(value)
    try:
        for spelled in spellings(value):
            out = redacted(before + spelled + after)
            bare = spelled.strip("[]'\"")
            assert value not in out
            assert len(bare) < SHORTEST or bare not in out
    finally:
        SECRETS.forget(value)


def texts(fields: Any) -> Iterator[str]:
    """Each text in `fields` by itself: a made-up secret may look like what is written around them."""
    if isinstance(fields, dict):
        yield from texts([*fields, *fields.values()])
    elif isinstance(fields, list):
        for item in fields:
            yield from texts(item)
    elif isinstance(fields, str):
        yield fields


@given(values, st.sampled_from(["hf_", ""]))
def test_fields_of_any_depth_and_kind_are_covered(value: str, prefix: str) -> None:
    value = prefix + value
    SECRETS.learn(value)
    try:
        fields = {
            "event": value, "bytes": value.encode(), "deep": {"list": [{"x": (value, 1)}], value: "as a name"},
            "error": ValueError(f"no {value}"), "path": Path("/tmp") / value.replace("\0", ""), "set": {value},
        }  # fmt: skip
        assert not any(value in text for text in texts(redacted_fields(fields)))
    finally:
        SECRETS.forget(value)


@given(opaque(LETTERS, 8))
def test_a_field_whose_name_says_that_it_is_secret_is_not_shown(value: str) -> None:
    named = ["Authorization", "authorization", "Cookie", "Set-Cookie", "x-webhook-secret", "client_secret", "hf_token"]
    fields: dict[str, Any] = dict.fromkeys(named, value)
    fields["headers"] = [("authorization", value), (b"Cookie", value.encode()), ["x-api-key", value]]
    shown = [["authorization", MASK], ["Cookie", MASK], ["x-api-key", MASK]]
    assert redacted_fields(fields) == dict.fromkeys(named, MASK) | {"headers": shown}


@pytest.mark.parametrize(
    "text",
    [
        "3f2a" * 10,
        "sha256:" + "0123456789abcdef" * 4,
        "microsoft/Phi-4-mini-instruct@v1.0",
        "hf_model.bin",
        "convert_hf_to_gguf.py",
        "convert_hf_to_gguf_update",
        "hf_quantizer_config_of_the_model",
        "token_embd.weight [ 3072, 200064,     1,     1], type = f16, converting to q6_K",
        "eos_token=<|end|> pad_token=<|endoftext|> token=200020",
        "bos_token_id = 199999, window_tokens: 256",
        "https://huggingface.co/microsoft/Phi-4/resolve/main/model-00001-of-00002.safetensors?download=true",
        "http://127.0.0.1:8077/phimill/Phi-3.5-tiny-instruct-GGUF@v1.0",
        "https://example.org/?a=b%40c",
        "basic internationalization2026 of 4-bit weights",
        "Use --secret HF_TOKEN=MILL_TOKEN.",
        "PHIMILL_WEBHOOK_SECRET: Input should be a valid string.",
        "eyJust a word. And another. And more.",
        "mailto:people@example.org",
        "layers.0.self_attn.q_proj.weight 100% |████| 12/12 [00:01<00:00, 9.3it/s]",
        "postgresql+psycopg://db.example/phimill",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_ordinary_fields_stay_as_they_are() -> None:
    fields = {"tokens": 256, "token_embd": "q6_K", "sizes": [1, 2.5, None, True], "stage": "convert gguf/int4"}
    assert redacted_fields(fields) == fields


@given(st.text())
def test_what_was_redacted_stays_as_it_is(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@given(looking_like_secrets(), around)
def test_what_had_a_secret_stays_as_it_is_afterwards(found: tuple[str, str], before: str) -> None:
    once = redacted(before + found[1])
    assert redacted(once) == once


def test_what_is_too_short_is_not_searched_for(known: list[str]) -> None:
    known += ["ab", "phi-4"]
    SECRETS.learn(*known, None, "")
    assert redacted("microsoft/phi-4 is about ab") == "microsoft/phi-4 is about ab"


def test_a_secret_that_two_hold_is_known_until_both_have_let_go() -> None:
    SECRETS.learn("of-two-people")
    SECRETS.learn("of-two-people")
    SECRETS.forget("of-two-people")
    assert redacted("of-two-people") == MASK
    SECRETS.forget("of-two-people")
    assert redacted("of-two-people") == "of-two-people"


def test_a_token_is_known_as_long_as_it_is_lent() -> None:
    keys = Keyring()
    keys.lend("ann", SecretStr("ann-s-first"))
    keys.lend("ann", SecretStr("ann-s-second"))
    assert redacted("ann-s-first ann-s-second") == f"ann-s-first {MASK}"
    keys.keep_only({"bob"})
    assert redacted("ann-s-second") == "ann-s-second"


def test_the_settings_name_their_secrets() -> None:
    url = "postgresql+psycopg://mill:p%40ss-word@db.example/mill"
    settings = Settings(database_url=url, webhook_secret=SecretStr("a-webhook"))
    assert settings.secrets() == ("a-webhook", "p@ss-word")
    assert Settings(database_url="not a url").secrets() == ("not a url",)


def test_a_build_s_log_and_its_errors_hold_no_secret(tmp_path: Path) -> None:
    token = "hf_" + "aB3" * 12
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    journal.write("a", "debug", "convert", f"the converter printed {token}")
    journal.set_note("why", f"the Hub said {token}")
    journal.close()
    error = HubError(f"The Hub said {token}.", f"Renew {token}.")
    stored = Failure.of(error).model_dump_json() + repr(error) + str(error) + repr(error.args)
    assert token not in stored
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "part",
    ["hf_", "eyJ", "eyJ.", "bearer+", "bearer ", "authorization:", "authorization ", "://a", "%3a%2f%2f", "secret=",
     "secret'", "secret':", "?sig=", "%26sig%3d", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "a", "%41"],
)  # fmt: skip
def test_no_text_takes_long(part: str) -> None:
    began = time.process_time()
    redacted(part * (200_000 // len(part)))
    assert time.process_time() - began < 2
