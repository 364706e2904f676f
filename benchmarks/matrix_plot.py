"""The matrix benchmark as a picture: what each backend takes, in a plain loop and in the mill."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.figures import Matrix

INK, FAINT, GRID, PAPER = "#24292f", "#57606a", "#d8dee4", "#ffffff"
LOOP, MILL, TARGET = "#afb8c1", "#0969da", "#bc4c00"
ALLOWED = 0.6
WIDTH = 0.38

Bars = dict[str, tuple[float, float]]  # what: seconds in the loop, in the mill


def draw(found: Matrix) -> bytes:
    """A PNG; equal figures give equal bytes (with one version of matplotlib)."""
    figure = Figure(figsize=(10, 4.4), dpi=144, facecolor=PAPER)
    FigureCanvasAgg(figure)
    title = f"{len(found.recipes)} variants of {found.title}, {found.parameters / 1e6:.0f} million parameters"
    figure.text(0.055, 0.955, title, color=INK, fontsize=12, va="top", parse_math=False)
    wall, cpu = _bars(found)
    _panel(figure.add_axes((0.055, 0.11, 0.435, 0.66), facecolor=PAPER), "wall time (s)", wall)
    axes = figure.add_axes((0.545, 0.11, 0.435, 0.66), facecolor=PAPER)
    _panel(axes, "CPU time (s)", cpu)
    line, *bars = zip(*axes.get_legend_handles_labels(), strict=True)
    handles, labels = zip(*bars, line, strict=True)
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.047, 0.905), ncols=3, frameon=False, fontsize=9.5,
        labelcolor=INK, handlelength=1.4, columnspacing=2,
    )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, facecolor=PAPER)
    return buffer.getvalue()


def _bars(found: Matrix) -> tuple[Bars, Bars]:
    """Wall and CPU of each backend and of all. Backends overlap in the mill, so its wall times do not add up."""
    wall: Bars = {}
    cpu: Bars = {}
    if found.convert is None or found.milling is None:
        return wall, cpu
    for line in found.milling.lines:
        tools = [tool.usage for tool in found.naive if tool.backend == line.backend]
        children = [child.cpu for child in found.milling.children if child.backend == line.backend]
        wall[line.backend] = sum(u.wall for u in tools), line.ended - line.began
        cpu[line.backend] = sum(u.cpu for u in tools), sum(children)
    loop, mill = found.loop, found.convert.usage
    wall["whole matrix"], cpu["whole matrix"] = (loop.wall, mill.wall), (loop.cpu, mill.cpu)
    return wall, cpu


def _panel(axes: Any, title: str, bars: Bars) -> None:
    places = range(len(bars))
    loop, mill = [pair[0] for pair in bars.values()], [pair[1] for pair in bars.values()]
    axes.bar([x - WIDTH / 2 for x in places], loop, WIDTH, color=LOOP, label="plain loop, one tool after the other")
    axes.bar([x + WIDTH / 2 for x in places], mill, WIDTH, color=MILL, label="the mill, converting")
    _numbers(axes, -WIDTH / 2, loop, FAINT)
    _numbers(axes, WIDTH / 2, mill, MILL)
    last = len(bars) - 1
    axes.plot(
        [last - WIDTH, last + WIDTH], [ALLOWED * loop[-1]] * 2,
        color=TARGET, linewidth=1.6, linestyle=(0, (4, 3)), label=f"target: {ALLOWED:g} of the loop",
    )  # fmt: skip
    axes.set_title(title, color=INK, fontsize=10.5, loc="left", pad=8)
    names = [f"{name}\n{b / a:.2f}" for name, (a, b) in bars.items()]
    axes.set_xticks(list(places), names, color=INK, fontsize=9.5)
    axes.set_ylim(0, 1.08 * max(*loop, *mill))
    axes.tick_params(axis="y", colors=FAINT, labelsize=8.5)
    axes.tick_params(length=0)
    axes.grid(True, axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def _numbers(axes: Any, shift: float, heights: Sequence[float], color: str) -> None:
    for x, height in enumerate(heights):
        axes.annotate(
            f"{height:.0f}" if height >= 10 else f"{height:.1f}", (x + shift, height), (0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=8.5, color=color,
        )  # fmt: skip
