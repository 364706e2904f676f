"""The picture on the card, and of a tuning: what each variant costs in bytes and loses in fidelity.

Drawn on a canvas of its own, without pyplot, whose figures are one global per process and never freed by
themselves; and without the metadata matplotlib adds, so that the same publication gives the same bytes. The
background is opaque: the Hub shows cards on white and on black.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from bot.publication import Publication
from bot.withheld import token_withheld

with token_withheld():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, FAINT, PAPER, FRONT = "#24292f", "#6e7781", "#fbfaf7", "#9a6700"
# Told apart by shape as well as by colour: not everybody sees the colours.
LOOKS: dict[str, tuple[str, str, str, float]] = {
    "recommended": ("o", "#0969da", "#0969da", 110),
    "cookbook": ("s", "none", "#bc4c00", 90),
    "ladder": ("D", "#8c959f", "#8c959f", 50),
    "chosen": ("*", "#1a7f37", "#1a7f37", 220),
}
LOWEST = 1e-9
LABEL_CHARACTERS = 28
MARK, FAR = 24.0, 30.0  # pixels: what a mark covers, and how far a label may be without a line
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)

Pixel = tuple[float, float]
Box = tuple[float, float, float, float]


class Mark(NamedTuple):
    """One thing to draw: `preset` is a key of LOOKS, `size` is in bytes."""

    label: str
    preset: str
    size: int
    kl: float


@dataclass(frozen=True)
class Point:
    """One variant: `size` in `unit`s, `kl` as measured, `height` where it is drawn on the log axis."""

    label: str
    preset: str
    size: float
    kl: float
    height: float


class Placed(Protocol):
    """What can be on a Pareto front."""

    @property
    def label(self) -> str: ...
    @property
    def size(self) -> float: ...
    @property
    def kl(self) -> float: ...


Drawn = TypeVar("Drawn", bound=Placed)


def draw(publication: Publication) -> bytes:
    """A PNG of size against mean KL. Equal publications give equal bytes (with one version of matplotlib)."""
    title = f"{plain(publication.repo.rpartition('/')[2], 60)}: size against distance to the source"
    return picture(title, [Mark(short(v.title), v.preset, v.bytes, v.fidelity.kl_mean) for v in publication.variants])


def picture(title: str, marks: Iterable[Mark]) -> bytes:
    """A PNG of these marks under a title; what has no finite KL is left out."""
    points, unit = _points(marks)
    figure = Figure(figsize=(8, 4.8), dpi=144, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.12, 0.885, 0.72), facecolor=PAPER)
    _frame(axes, points, unit)
    figure.text(0.085, 0.955, title, color=INK, fontsize=11.5, va="top", parse_math=False)
    _front(axes, points)
    _marks(axes, points)
    _labels(figure, canvas, axes, points)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, facecolor=PAPER)
    return buffer.getvalue()


def pareto(points: Iterable[Drawn]) -> list[Drawn]:
    """The points that no other beats: everything smaller is farther from the source. By size."""
    front: list[Drawn] = []
    for point in sorted(points, key=lambda p: (p.size, p.kl, p.label)):
        if not front or point.kl < front[-1].kl:
            front.append(point)
    return front


def short(title: str) -> str:
    """The short name in a title: Q4_K_M of `INT4, calibrated (Q4_K_M)`, BF16 of `BF16, as it is`."""
    last = re.search(r"\(([^()]+)\)\s*$", title)
    return last[1] if last else title.partition(",")[0]


def _points(marks: Iterable[Mark]) -> tuple[list[Point], str]:
    measured = [mark for mark in marks if math.isfinite(mark.kl)]
    positive = [mark.kl for mark in measured if mark.kl > 0]
    # A log axis has no zero: what is exactly the source stands one decade below everything else, and says so.
    floor = max(LOWEST, min(positive) / 10) if positive else LOWEST
    scale, unit = (1e9, "GB") if max((mark.size for mark in measured), default=0) >= 1e9 else (1e6, "MB")
    points = [
        Point(
            label=plain(mark.label, LABEL_CHARACTERS) + ("" if mark.kl > 0 else " (KL 0)"),
            preset=mark.preset if mark.preset in LOOKS else "ladder",
            size=max(mark.size, 1) / scale,
            kl=max(mark.kl, 0.0),
            height=max(mark.kl, floor),
        )
        for mark in measured
    ]
    return sorted(points, key=lambda p: (p.size, p.kl, p.label)), unit


def _frame(axes: Any, points: list[Point], unit: str) -> None:
    """Log axes with room around the points, few ticks with plain numbers, a quiet grid."""
    sizes, heights = [p.size for p in points] or [1.0], [p.height for p in points] or [1e-3]
    left, right = min(sizes) / 1.35, max(sizes) * 1.45
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min(heights) / 6, max(heights) * 8)
    steps = _STEPS if right / left < 30 else (1.0, 2.0, 5.0)
    decades = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    ticks = [s * 10.0**d for d in decades for s in steps if left <= s * 10.0**d <= right]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{round(math.log10(value))}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"size ({unit}), smaller is better", color=FAINT, fontsize=9.5)
    axes.set_ylabel("mean KL (nats), lower is better", color=FAINT, fontsize=9.5)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=0)
    axes.grid(True, color="#d8dee4", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _front(axes: Any, points: list[Point]) -> None:
    front = pareto(points)
    if len(front) > 1:
        axes.plot(
            [p.size for p in front], [p.height for p in front],
            color=FRONT, linewidth=1.4, linestyle=(0, (4, 3)), zorder=2, label="Pareto front",
        )  # fmt: skip


def _marks(axes: Any, points: list[Point]) -> None:
    for preset, (marker, face, edge, area) in LOOKS.items():
        chosen = [p for p in points if p.preset == preset]
        if chosen:
            axes.scatter(
                [p.size for p in chosen], [p.height for p in chosen],
                s=area, marker=marker, facecolors=face, edgecolors=edge, linewidths=1.8, zorder=4,
                label=preset if preset != "ladder" else "other",
            )  # fmt: skip
    if points:
        # Above the frame, where no point can be.
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.012, 1.0), ncols=5, frameon=False, fontsize=9,
            labelcolor=INK, handletextpad=0.5, columnspacing=1.8, borderaxespad=0.2,
        )  # fmt: skip


def _labels(figure: Any, canvas: Any, axes: Any, points: list[Point]) -> None:
    """Put each label at the nearest free place around its point."""
    renderer = canvas.get_renderer()
    centres = [_pixels(axes.transData.transform((p.size, p.height))) for p in points]
    taken = [_around(x, y, MARK, MARK) for x, y in centres]
    frame = _extents(axes.get_window_extent())
    for point, (x, y) in zip(points, centres, strict=True):
        text = figure.text(
            0, 0, point.label, fontsize=9.5,
            color=INK if point.preset == "ladder" else LOOKS[point.preset][2],
            ha="center", va="center_baseline", zorder=6, parse_math=False,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )  # fmt: skip
        extent = text.get_window_extent(renderer)
        box = _place(x, y, extent.width + 8, extent.height + 6, frame, taken)
        taken.append(box)
        text.set_position(figure.transFigure.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)))
        _leader(axes, (x, y), box, centres)


def _leader(axes: Any, own: Pixel, box: Box, centres: list[Pixel]) -> None:
    """A thin line from a point to its label, where that is far or could be taken for another point's."""
    away = _distance(own, box)
    if away > FAR or any(c != own and _distance(c, box) < 1.5 * away for c in centres):
        end = (min(max(own[0], box[0]), box[2]), min(max(own[1], box[1]), box[3]))
        ends = axes.transData.inverted().transform([own, end])
        axes.plot(ends[:, 0], ends[:, 1], color=FAINT, linewidth=0.9, zorder=3, scalex=False, scaley=False)


def _place(x: float, y: float, width: float, height: float, frame: Box, taken: list[Box]) -> Box:
    """The first box, going outwards from (x, y), that covers nothing; else the one that covers least."""
    best: tuple[float, Box] | None = None
    for step in range(12):
        reach = 16 + 14 * step
        for angle in (40, 15, 0, 65, 90, -30, -60, -90, 180, 150, -150, 120, -120):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The nearest edge, not the middle, is what should be `reach` away: labels are wider than high.
            box = _around(x + dx * (reach + width / 2), y + dy * (reach + height / 2), width, height)
            cost = sum(_overlap(box, other) for other in taken) + _area(box) - _overlap(box, frame)
            if cost <= 0.5:
                return box
            if best is None or cost < best[0]:
                best = (cost, box)
    assert best is not None  # noqa: S101 - the loops above are never empty
    return best[1]


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _distance(point: Pixel, box: Box) -> float:
    """From a point to the nearest edge of a box; 0 inside it."""
    return math.hypot(max(box[0] - point[0], 0.0, point[0] - box[2]), max(box[1] - point[1], 0.0, point[1] - box[3]))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _around(x: float, y: float, width: float, height: float) -> Box:
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _extents(box: Any) -> Box:
    return (float(box.x0), float(box.y0), float(box.x1), float(box.y1))


def _pixels(point: Any) -> Pixel:
    return float(point[0]), float(point[1])


def plain(text: str, length: int) -> str:
    """Text the bundled font can draw: printable ASCII, cut to `length`."""
    line = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    return line if len(line) <= length else line[: length - 3] + "..."
