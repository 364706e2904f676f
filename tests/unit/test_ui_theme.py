"""Whether what the page says can be read: contrasts as WCAG 2.2 computes them, from the style sheets themselves."""

from __future__ import annotations

import re

import pytest

from bot.ui.theme import COLOURS, CSS, head, theme

READABLE, VISIBLE = 4.5, 3.0
STATES = ("good", "busy", "warn", "bad", "idle")
SURFACES = ("paper", "card", "sunk", "hover")
TEXTS = [
    *((ink, surface) for ink in ("ink", "quiet", "accent", "accent-strong") for surface in SURFACES),
    *((f"{state}-ink", f"{state}-fill") for state in STATES),
    *(("on-accent", accent) for accent in ("accent", "accent-strong")),
    *((f"log-{ink}", "log-paper") for ink in ("ink", "stage", "at", "warning", "error")),
]
DRAWN = ("gguf", "mlx", "onnx", "openvino", "other", "front")
EDGES = [(edge, surface) for edge in ("focus", "edge", "accent", *DRAWN) for surface in ("paper", "card", "sunk")]


def _colours(mode: str) -> dict[str, str]:
    text = COLOURS.read_text("utf-8")
    blocks = dict(re.findall(r"(:root|\.dark) \{(.*?)\}", text, re.DOTALL))
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[":root"]))
    return found if mode == "light" else found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[".dark"]))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_is_what_the_standard_says_it_is() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("ink", "surface"), TEXTS)
def test_every_text_stands_out_from_what_it_stands_on(mode: str, ink: str, surface: str) -> None:
    colours = _colours(mode)
    assert contrast(colours[ink], colours[surface]) >= READABLE


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("edge", "surface"), EDGES)
def test_what_is_no_text_can_be_made_out(mode: str, edge: str, surface: str) -> None:
    colours = _colours(mode)
    assert contrast(colours[edge], colours[surface]) >= VISIBLE


def test_the_style_sheet_paints_with_these_colours_alone() -> None:
    used = "".join(sheet.read_text("utf-8") for sheet in CSS)
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgba?\(", used) == []
    ours = set(re.findall(r"var\(--([\w-]+)\)", used)) - {"text-md", "hue"}
    assert ours <= set(_colours("light"))


def test_the_theme_knows_every_colour_it_names() -> None:
    painted = {
        value[6:-1] for value in vars(theme()).values() if isinstance(value, str) and value.startswith("var(--")
    }
    assert painted
    assert painted <= set(_colours("light"))


def test_nothing_of_the_looks_comes_from_elsewhere() -> None:
    assert "http" not in head() + "".join(sheet.read_text("utf-8") for sheet in CSS)
    assert "Google" not in str(vars(theme()))
