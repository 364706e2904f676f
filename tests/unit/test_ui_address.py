"""What an address opens."""

from __future__ import annotations

import pytest

from bot.ui.address import LONGEST, link_to, part, tab_of


@pytest.mark.parametrize(
    ("parameters", "tab"),
    [
        ({}, ""),
        ({"tab": "releases"}, "releases"),
        ({"build": "1a2b"}, "builds"),
        ({"compare": "microsoft/Phi-4", "tab": "builds"}, "compare"),
        ({"repo": "microsoft/Phi-4"}, "convert"),
        ({"build": " ", "tab": "advice"}, "advice"),
    ],
)
def test_an_address_opens_the_tab_that_shows_what_it_names(parameters: dict[str, str], tab: str) -> None:
    assert tab_of(parameters) == tab


def test_a_value_is_bounded_and_may_be_absent() -> None:
    assert part({"build": "x" * 9999}, "build") == "x" * LONGEST
    assert part({}, "build") == ""


def test_a_link_cannot_break_out_of_its_parameter() -> None:
    assert link_to(repo='a/b&tab=x"') == "?repo=a%2Fb%26tab%3Dx%22"
