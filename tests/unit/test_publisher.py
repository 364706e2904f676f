"""What a publisher asks of the libraries that it publishes with."""

from __future__ import annotations

import hf_xet
import pytest

from bot.hub import Hub
from bot.publisher import CHUNKS_REMEMBERED, Publisher

LIMIT = "HF_XET_SHARD_CHUNK_INDEX_TABLE_MAX_SIZE"


def remembered() -> int:
    """How many chunks hf_xet would remember now."""
    return int(dict(hf_xet.XetConfig())["shard.chunk_index_table_max_size"])


def test_what_is_remembered_of_uploads_does_not_grow_for_months(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    assert remembered() > CHUNKS_REMEMBERED, "hf_xet has a bound of its own by now"
    Publisher(Hub("http://127.0.0.1:9"), lambda: None)
    assert remembered() == CHUNKS_REMEMBERED


def test_an_operator_may_have_more_or_less_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "4096")
    Publisher(Hub("http://127.0.0.1:9"), lambda: None)
    assert remembered() == 4096
