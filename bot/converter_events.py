"""What a converter may say, one JSON object a line. See `converters/base.py` for when it says it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from bot.filenames import MAX_FILES

MAX_FACTS = 64 * 1024  # characters of JSON
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def plain(text: str, longest: int = 2000) -> str:
    """The text as one harmless line: no escape sequences, no line breaks, no direction marks, not endless."""
    return _CONTROL.sub(" ", text.replace("\n", " ")[:longest]).rstrip()


def _finite(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse NaN and infinity, which are no JSON and would break every store further on."""
    json.dumps(values, allow_nan=False)
    return values


def _small(facts: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(facts)) > MAX_FACTS:
        raise ValueError("too large")
    return facts


Text = Annotated[str, AfterValidator(plain)]
Values = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
Facts = Annotated[Values, AfterValidator(_small)]


class Event(BaseModel):
    """One line of a converter's stdout. Fields we do not know yet are for later versions of us."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Described(Event):
    """What the backend is made of, and which architectures (class names) it can convert."""

    event: Literal["described"]
    backend: Text
    versions: dict[Text, Text]
    architectures: tuple[Text, ...]


class Progress(Event):
    """How far a stage is; `total` is 0 where nobody knows."""

    event: Literal["progress"]
    stage: Text
    done: float
    total: float
    unit: Text


class Log(Event):
    """A line for people."""

    event: Literal["log"]
    level: Literal["debug", "info", "warning", "error", "critical"]
    text: Text


class Made(Event):
    """A recipe is done; `files` and `extras` are names relative to the request's `out`."""

    event: Literal["artifact"]
    recipe: Text = Field(max_length=200)
    files: tuple[str, ...] = Field(min_length=1, max_length=MAX_FILES)
    extras: tuple[str, ...] = Field(default=(), max_length=MAX_FILES)
    bits_per_weight: float = Field(gt=0, le=64)
    facts: Facts = {}


class Reference(Event):
    """The source has been run: what everything else is compared with."""

    event: Literal["reference"]
    windows: int
    window_tokens: int
    vocabulary: int
    perplexity: float
    end_tokens: tuple[int, ...]


class Metrics(Event):
    """What was measured: `values` are fields of `Fidelity`, `details` whatever else explains them."""

    event: Literal["metrics"]
    values: Values
    details: Values = {}


class Error(Event):
    """Why the converter gives up."""

    event: Literal["error"]
    code: str
    message: Text
    hint: Text = ""


EVENT: TypeAdapter[Event] = TypeAdapter(
    Annotated[
        Described | Progress | Log | Made | Reference | Metrics | Error,
        Field(discriminator="event"),
    ]
)
