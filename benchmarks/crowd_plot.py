"""The picture of fifty people on the dashboard: how long its data took, and the server's memory."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.crowd import PEOPLE, TARGET, Found

BUCKET = 10.0  # seconds


def draw(found: Found) -> bytes:
    """A PNG: p50 and p95 of each ten seconds above, memory below."""
    figure = Figure(figsize=(8, 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    times, memory = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    buckets: dict[int, list[float]] = {}
    for at, took in found.data:
        buckets.setdefault(int(at / BUCKET), []).append(1000 * took)
    minutes = [number * BUCKET / 60 for number in sorted(buckets)]
    for share, colour in ((0.5, "#0969da"), (0.95, "#bc4c00")):
        line = [sorted(buckets[number])[int(share * len(buckets[number]))] for number in sorted(buckets)]
        times.plot(minutes, line, color=colour, label=f"p{100 * share:.0f}")
    times.axhline(TARGET, color="#6e7781", linestyle="--", linewidth=1, label="target for p95")
    times.set(ylabel="data of a page, ms", ylim=(0, None), title=f"{PEOPLE} people on the dashboard")
    times.legend(frameon=False, ncols=3)
    memory.plot([at / 60 for at, _ in found.memory], [size / 2**20 for _, size in found.memory], "o-", color="#1a7f37")
    memory.set(xlabel="minutes", ylabel="memory, MiB", ylim=(0, None))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
