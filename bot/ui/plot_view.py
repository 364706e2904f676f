"""Size against KL as an SVG that answers to the mouse and to the keyboard.

Backends differ by shape as well as by colour. Each mark is a stop of the Tab key and says its figures to a screen
reader; what is pointed at or focused is also written out beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from bot.comparison import Compared, front
from bot.ui import words
from bot.ui.language import say
from bot.ui.markup import EMPTY, tag

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 16, 46  # around the frame
TIP_WIDTH, TIP_LINE, TIP_CHARACTERS = 240, 17, 34
# A path around 0,0 for each backend; one that is not here is drawn as the last.
SHAPES = {
    "gguf": "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0z",
    "mlx": "M-6,-6h12v12h-12z",
    "onnx": "M0,-7.5L7,5.5H-7z",
    "openvino": "M0,-8L8,0L0,8L-8,0z",
    "other": "M-2.5,-7h5v4.5h4.5v5h-4.5v4.5h-5v-4.5h-4.5v-5h4.5z",
}
_STEPS = (1.0, 2.0, 5.0)
LOWEST = 1e-9  # a log axis has no zero


def plot(compared: Sequence[Compared], language: str) -> Markup:
    """The picture with its legend."""
    drawn = _Picture(compared, language)
    names = dict.fromkeys(one.backend for one in compared)
    legend = [tag("span", _key(name), name, cls=f"key {_kind(name)}") for name in names]
    legend.append(tag("span", tag("i", cls="front-line"), say(language, "compare.front"), cls="key"))
    return tag("div", tag("div", *legend, cls="legend"), tag("div", drawn.svg(), cls="canvas"), cls="plot")


def figures(one: Compared, language: str) -> list[str]:
    """What is said of a mark."""
    return [
        f"{one.recipe} · {one.label}",
        f"{say(language, 'compare.size')} {words.size(one.size)}",
        f"{say(language, 'compare.kl')} {words.nats(one.kl)}",
        f"{say(language, 'compare.top1')} {words.share(one.top1)}",
        f"{say(language, 'compare.perplexity')} × {one.perplexity_ratio:.3f}",
    ]


def _kind(backend: str) -> str:
    return backend if backend in SHAPES else "other"


def _key(backend: str) -> Markup:
    shape = tag("path", d=SHAPES[_kind(backend)])
    return tag("svg", shape, viewBox="-9 -9 18 18", width=14, height=14, aria_hidden="true")


class _Picture:
    """Both axes are logarithmic, with room around the marks."""

    def __init__(self, compared: Sequence[Compared], language: str) -> None:
        self._all = sorted(compared, key=lambda one: (one.size, one.kl, one.recipe))
        self._language = language
        positive = [one.kl for one in compared if one.kl > 0]
        self._floor = max(LOWEST, min(positive) / 10) if positive else LOWEST
        heights = [max(one.kl, self._floor) for one in compared]
        self._sizes = (
            math.log10(min(one.size for one in compared) / 1.3),
            math.log10(max(o.size for o in compared) * 1.3),
        )
        self._heights = math.log10(min(heights) / 3), math.log10(max(heights) * 3)

    def _x(self, size: float) -> float:
        low, high = self._sizes
        return LEFT + (math.log10(size) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _y(self, kl: float) -> float:
        low, high = self._heights
        return TOP + (high - math.log10(max(kl, self._floor))) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def svg(self) -> Markup:
        best = front(self._all)
        line = " ".join(f"{self._x(one.size):.1f},{self._y(one.kl):.1f}" for one in best)
        marks = [self._mark(number, one, one in best) for number, one in enumerate(self._all)]
        tips = [self._tip(number, one) for number, one in enumerate(self._all)]
        return tag(
            "svg",
            *self._axes(),
            tag("polyline", points=line, cls="front-line") if len(best) > 1 else EMPTY,
            *(self._zero(one) for one in self._all if one.kl == 0),
            *marks,
            *tips,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="group",
            aria_label=say(self._language, "compare.picture"),
        )

    def _zero(self, one: Compared) -> Markup:
        """Says that a mark stands where it does for want of a zero on the axis."""
        return tag("text", "KL 0", x=f"{self._x(one.size):.1f}", y=f"{self._y(0) + 22:.1f}", cls="tick middle")

    def _axes(self) -> list[Markup]:
        bottom, parts = HEIGHT - BOTTOM, []
        for size in _ticks(*self._sizes, _STEPS):
            x = f"{self._x(size):.1f}"
            parts.append(tag("line", x1=x, x2=x, y1=TOP, y2=bottom, cls="rule"))
            parts.append(tag("text", words.size(size).replace(".0 ", " "), x=x, y=bottom + 17, cls="tick middle"))
        for kl in _ticks(*self._heights, (1.0,)):
            y = f"{self._y(kl):.1f}"
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, cls="rule"))
            parts.append(tag("text", f"1e{round(math.log10(kl))}", x=LEFT - 8, y=y, dy=4, cls="tick end"))
        below = tag("text", say(self._language, "compare.axis_size"), x=WIDTH / 2, y=HEIGHT - 8, cls="tick middle")
        beside = say(self._language, "compare.axis_kl")
        turned = f"rotate(-90) translate({-(TOP + bottom) / 2},13)"
        return [*parts, below, tag("text", beside, transform=turned, cls="tick middle")]

    def _mark(self, number: int, one: Compared, best: bool) -> Markup:
        return tag(
            "path",
            d=SHAPES[_kind(one.backend)],
            transform=f"translate({self._x(one.size):.1f},{self._y(one.kl):.1f})",
            cls=f"mark {_kind(one.backend)}{' best' if best else ''}",
            tabindex=0,
            role="img",
            aria_label=", ".join(figures(one, self._language)),
            data_mark=number,
        )

    def _tip(self, number: int, one: Compared) -> Markup:
        """On the side of the mark where there is room."""
        x, y = self._x(one.size), self._y(one.kl)
        height = TIP_LINE * 5 + 14
        left = x + 14 if x < WIDTH / 2 else x - 14 - TIP_WIDTH
        top = min(max(y - height / 2, 2), HEIGHT - height - 2)
        text = [
            tag("text", _cut(line), x=10, y=20 + TIP_LINE * at, cls="name" if at == 0 else None)
            for at, line in enumerate(figures(one, self._language))
        ]
        box = tag("rect", width=TIP_WIDTH, height=height, rx=6)
        return tag("g", box, *text, transform=f"translate({left:.1f},{top:.1f})", cls="tip", data_tip=number)


def _cut(text: str) -> str:
    return text if len(text) <= TIP_CHARACTERS else f"{text[: TIP_CHARACTERS - 1]}…"


def _ticks(low: float, high: float, steps: Sequence[float]) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    return [step * 10.0**d for d in decades for step in steps if low <= math.log10(step * 10.0**d) <= high]
