"""How far a build is, read from its finished steps."""

from __future__ import annotations

from fake_mill import build, published, request

from bot.builds import Build, Phase, Progress, VariantResult
from bot.course import course, fetched

ASKED = request("gguf/int4", "gguf/int8")
STEPS = ("release", "convert gguf/fp16", "prove gguf/fp16", "look gguf/int4", "convert gguf/int4")


def running(stage: str, recipe: str | None) -> Build:
    return build(phase=Phase.RUNNING, asked=ASKED, progress=Progress(stage=stage, recipe=recipe))


def states(one: Build, *steps: str) -> dict[str, str]:
    return {leg.recipe: " ".join(leg.states.values()) for leg in course(one, steps)}


def test_a_waiting_build_has_everything_ahead() -> None:
    one = build(phase=Phase.WAITING, asked=ASKED)
    assert states(one) == {"gguf/int4": "ahead ahead ahead", "gguf/int8": "ahead ahead ahead"}
    assert fetched(one, ()) == "ahead"


def test_the_source_is_fetched_before_anything_is_converted() -> None:
    assert fetched(running("convert: download", "gguf/fp16"), ()) == "now"
    assert fetched(running("convert", "gguf/fp16"), ()) == "done"
    assert fetched(running("toolchains", None), ()) == "ahead"


def test_what_the_others_are_measured_against_comes_first_and_is_marked() -> None:
    legs = course(running("prove", "gguf/int4"), STEPS)
    assert [(leg.recipe, leg.measure) for leg in legs] == [
        ("gguf/fp16", True),
        ("gguf/int4", False),
        ("gguf/int8", False),
    ]
    assert [leg.states["prove"] for leg in legs] == ["done", "now", "ahead"]


def test_a_build_that_is_over_says_how_far_each_variant_came() -> None:
    failed = VariantResult(recipe="gguf/int8", status="gate_failed")
    one = build(results=(published("gguf/int4"), failed), asked=ASKED)
    assert states(one) == {"gguf/int4": "done done done", "gguf/int8": "done failed left"}
    assert fetched(one, ()) == "done"


def test_a_cancelled_build_leaves_out_the_rest() -> None:
    one = build(phase=Phase.CANCELLED, asked=ASKED)
    assert states(one, "convert gguf/int4") == {"gguf/int4": "done left left", "gguf/int8": "left left left"}
    assert fetched(build(phase=Phase.CANCELLED, asked=ASKED), ()) == "left"


def test_a_variant_that_could_not_be_converted_failed_there() -> None:
    one = build(phase=Phase.FAILED, results=(VariantResult(recipe="gguf/int4", status="failed"),), asked=ASKED)
    assert states(one)["gguf/int4"] == "failed left left"
