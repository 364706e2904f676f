"""What is offered of a release, and what is ticked."""

from __future__ import annotations

from fake_mill import TARGET, FakeMill, release, verdict

from bot.models import Status
from bot.offer import COOKBOOK, RECOMMENDED, Offer, allowed, cost, offers, ticked
from bot.reader import CheckReport
from bot.settings import Settings


def offered(**backends: object) -> tuple[Offer, ...]:
    report = CheckReport(
        release=release(),
        verdicts=(
            verdict("gguf/int4"),
            verdict("gguf/int4-cookbook"),
            verdict("gguf/int8", Status.CAVEAT, "Mind."),
            verdict("gguf/fp16", Status.UNSUPPORTED, "No."),
            verdict("gguf/fp32").model_copy(update={"lacks": ("It needs more memory.",)}),
            verdict("gguf/q6_k"),
        ),
        published={"gguf/int4": "v1.0"},
        places={"gguf/int4": TARGET},
    )
    return offers(report, Settings(**backends))


def test_what_can_be_made_and_is_usual_is_ticked_unless_it_is_there() -> None:
    assert ticked(offered(), RECOMMENDED) == ("gguf/int8",)
    assert ticked(offered(), COOKBOOK) == ("gguf/int4-cookbook",)


def test_what_stands_already_says_where() -> None:
    first = offered()[0]
    assert (first.repo, first.tag, first.open) == (TARGET, "v1.0", True)


def test_only_what_is_open_can_be_asked_for_whatever_the_browser_says() -> None:
    asked = ["gguf/int4", "gguf/fp16", "gguf/fp32", "rm -rf", 7, None, {}]
    assert allowed(offered(), asked) == ("gguf/int4",)


def test_the_cost_is_that_of_the_chosen_ones() -> None:
    assert cost(offered(), ("gguf/int4", "gguf/q6_k")) == (1.0, 2_800_000)


def test_a_backend_that_is_not_enabled_is_not_offered() -> None:
    assert offered(backends=("onnx",)) == ()


def test_what_is_meant_for_other_sources_is_left_out() -> None:
    half = release().model_copy(update={"dtype": "float16"})
    report = FakeMill().reader().check("a/b").model_copy(update={"release": half, "verdicts": (verdict("gguf/bf16"),)})
    assert offers(report, Settings()) == ()
