"""Whatever a repo, a converter or a caller sends is read, or refused with the one error meant for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import hypothesis
import pytest
from fake_mill import FakeMill
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from bot import api, catalog, pretokenizer, sandbox
from bot.converter import _Listener
from bot.errors import NotOurs, SourceCorrupt
from bot.hub import Hub
from bot.models import Release, SourceFile, Traits
from bot.pretokenizer import Probed
from bot.publication import Publication
from bot.receipt import read_receipt
from bot.safetensors_header import Header, Tensor, check_index
from bot.settings import Settings
from bot.traits import LIMITS, architecture, config_dtype, load_json, rope, text_part, traits

RECEIPT = Path(__file__).parents[1] / "unit" / "cards" / "phi-3.5-gguf.json"
SECRET = "a long secret"

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
# Almost the longest number that JSON is read with, and what JSON and UTF-8 do not hold.
nasty = st.sampled_from([10**4000, float("inf"), float("nan"), "\ud800", "\x00", "\x1b[2J\u202e"])
values = st.recursive(
    scalars | nasty,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def tables(**likely: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Tables whose keys are those that somebody reads, each with a likely value or with any."""
    return st.fixed_dictionaries({}, optional={key: likely[key] | values for key in likely})


def texts(written: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Any text, brackets without end, and JSON that holds what is likely."""
    deep = st.sampled_from(["[", '{"a":', '{"weight_map":', '{"repo":']).map(lambda part: part * 3000)
    return st.text(max_size=200) | deep | written.filter(_can_be_written).map(json.dumps)


def _can_be_written(value: Any) -> bool:
    try:
        json.dumps(value)
    except ValueError:
        return False
    return True


counts = st.integers(-1, 2**30)
factors = st.lists(st.floats() | st.integers(), max_size=4)
ropes = tables(type=st.sampled_from(["longrope", "su"]), rope_type=st.just("default"), long_factor=factors,
               short_factor=factors, partial_rotary_factor=st.floats(), full_attention=st.just({}),
               original_max_position_embeddings=counts)  # fmt: skip
config_keys: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "hidden_size", "n_embd", "num_hidden_layers", "num_attention_heads"), counts),
    **dict.fromkeys(("num_key_value_heads", "max_position_embeddings", "head_dim", "num_local_experts"), counts),
    "architectures": st.lists(st.just("Phi3ForCausalLM"), max_size=2),
    "rope_scaling": ropes,
    "rope_parameters": ropes,
    "tie_word_embeddings": st.booleans(),
    "partial_rotary_factor": st.floats(0, 1),
    "auto_map": st.just({"AutoConfig": "x.y"}),
    "dtype": st.just("torch.bfloat16"),
}
configs = tables(**config_keys, text_config=tables(**config_keys))
tokenizer_configs = tables(tokenizer_class=st.sampled_from(["GPT2Tokenizer", "LlamaTokenizer"]))
SOUND = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 4096}  # fmt: skip


@given(texts(values | configs))
def test_any_text_is_a_table_or_source_corrupt(text: str) -> None:
    try:
        table = load_json("config.json", text)
    except SourceCorrupt:
        return
    assert isinstance(table, dict)


@given(configs | values.map(lambda value: {"architectures": value}), st.booleans(), tokenizer_configs)
def test_any_config_is_traits_or_source_corrupt(
    config: dict[str, Any], sound: bool, tokenizer_config: dict[str, Any]
) -> None:
    config = {**SOUND, **config} if sound else config
    assert isinstance(architecture(config) + config_dtype(config), str)
    assert isinstance(text_part(config), dict)
    try:
        assert isinstance(rope(config)["rope_type"], str)
        found = traits(config, tokenizer_config, ())
    except SourceCorrupt:
        return
    assert isinstance(found, Traits)
    assert 0 < found.layers <= LIMITS["layers"]
    assert 0 < found.partial_rotary <= 1


@given(texts(tables(weight_map=st.dictionaries(st.sampled_from(["a", "b"]), st.just("1.safetensors")))))
def test_any_text_is_an_index_or_source_corrupt(text: str) -> None:
    tensor = Tensor(dtype="U8", shape=(1,), begin=0, end=1)
    header = Header(file="1.safetensors", tensors={"a": tensor})
    try:
        check_index("model.safetensors.index.json", text, {header.file: header})
    except SourceCorrupt:
        return
    assert json.loads(text)["weight_map"] == {"a": header.file}


class OneFile:
    """A Hub on which every file is the same."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_bytes(self, *_: object) -> bytes:
        return self.data

    def read_text(self, *_: object) -> str:
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise SourceCorrupt("README.md is not UTF-8.") from error


def release_with(**changes: Any) -> Release:
    return Release(
        repo="microsoft/Phi", sha="a" * 40, architecture="PhiForCausalLM", model_type="phi", dtype="float16",
        parameters=1, traits=Traits(), files=(), **changes
    )  # fmt: skip


answers = texts(values | tables(ids=st.lists(st.integers()), highest=st.integers()))


@hypothesis.settings(max_examples=50)
@given(st.lists(answers, max_size=2), st.sampled_from([0, 0, 0, 1, -9]))
def test_any_answer_about_a_tokenizer_is_read_or_source_corrupt(lines: list[str], code: int) -> None:
    def answered(*_: object, on_line: Any, **__: object) -> Any:
        for line in lines:
            on_line(line)
        return sandbox.Outcome(returncode=code, tier="none", peak_memory=0, wall=0.0, cpu=0.0)

    with patch.object(sandbox, "run", answered):
        try:
            found = pretokenizer.probe(release_with(), "x", cast(Hub, OneFile(b"{}")), Settings())
        except SourceCorrupt:
            return
    assert isinstance(found, Probed)


fronts = st.text(max_size=200) | st.text(alphabet="[]{}&*!<>:-, \n\"'ab01_.?|", max_size=80)
FRONTS = st.binary(max_size=200) | fronts.map(lambda text: f"---\n{text}\n---\n".encode("utf-8", "replace"))


@given(FRONTS)
def test_any_card_is_read_or_counts_for_nothing(data: bytes) -> None:
    files = (SourceFile(path="README.md", size=len(data), digest="0" * 40),)
    card = catalog._card(cast(Hub, OneFile(data)), "microsoft/Phi", "a" * 40, files)
    assert isinstance(card, dict)


@st.composite
def receipts(draw: st.DrawFn) -> str:
    """A real receipt of which some part is another value."""
    state: Any = json.loads(RECEIPT.read_bytes())
    place, key = state, draw(st.sampled_from(sorted(state)))
    while isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = draw(values)
    if isinstance(place, dict):
        place[draw(st.text(max_size=4))] = draw(values)
    return json.dumps(state) if _can_be_written(state) else ""


@hypothesis.settings(max_examples=60)
@given(st.binary(max_size=200) | texts(values).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_receipt_or_not_ours(data: bytes) -> None:
    with pytest.raises(NotOurs):
        read_receipt(data)


@hypothesis.settings(max_examples=60)
@given(receipts())
def test_a_changed_receipt_is_read_or_not_ours(text: str) -> None:
    try:
        found = read_receipt(text.encode())
    except NotOurs:
        return
    assert isinstance(found, Publication)


@pytest.fixture(scope="module")
def webhook() -> Iterator[TestClient]:
    with patch.object(api, "_with_page", lambda app, mill: app):
        mill = FakeMill(Settings(webhook_secret=SECRET, watch=["microsoft"]))
        with TestClient(api.create_app(mill), base_url="http://127.0.0.1") as client:
            yield client


payloads = tables(repo=tables(type=st.just("model"), name=st.text(max_size=12).map(lambda name: f"eve/{name}")))


@given(st.binary(max_size=200) | texts(values | payloads).map(lambda text: text.encode("utf-8", "replace")))
def test_any_payload_is_ignored_or_refused(webhook: TestClient, data: bytes) -> None:
    answer = webhook.post("/webhook", content=data, headers={"X-Webhook-Secret": SECRET})
    assert answer.status_code in (202, 400, 413)
    assert answer.status_code != 202 or answer.json() == {"status": "ignored"}


events = tables(
    event=st.sampled_from(["described", "progress", "log", "artifact", "reference", "metrics", "error"]),
    **dict.fromkeys(("stage", "unit", "text", "recipe", "code", "message", "backend"), st.text(max_size=8)),
    **dict.fromkeys(("done", "total", "bits_per_weight", "perplexity"), st.floats(0, 9)),
    **dict.fromkeys(("files", "extras"), st.lists(st.text(max_size=8), min_size=1, max_size=2)),
    **dict.fromkeys(("values", "details", "facts"), st.dictionaries(st.text(max_size=4), values, max_size=2)),
    level=st.just("info"),
)


@given(texts(values | events))
def test_any_line_of_a_converter_is_an_event_or_log(text: str) -> None:
    logs: list[str] = []
    listener = _Listener(on_progress=lambda *_: None, on_log=lambda _, line: logs.append(line))
    listener.line(text)
    for event in [*listener.made, *listener.last.values()]:
        json.dumps(event.model_dump(mode="json"), allow_nan=False)
    assert all(len(line.splitlines()) <= 1 for line in logs)
