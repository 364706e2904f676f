"""The matrix benchmark in words and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.figures import Arm, Child, Line, Matrix, Milling, Tool

GB, GIB = 1e9, 2**30
BUSY = 0.15  # of the cores; more than the Hub takes that the benchmark runs itself
SHOWN = 5  # of the conversions that took most

HEAD = """
## The whole matrix against a plain loop

The plain loop downloads the source once and then runs, for every variant, the script that its model card gives to make
it by hand: each upstream tool once per variant, one after the other, with its own defaults, nothing kept in between.
The mill makes the same variants: backends side by side as far as cores and memory go, what variants share made once.
The loop proves and publishes nothing, so what is compared with it is the mill converting alone; the whole round, which
also runs the source and every variant and publishes, is the last row. Both ways use the same environments.

Peak memory is the sum over the whole process tree of PSS, five looks a second, mapped weights included; *anonymous* is
the part that the kernel cannot drop. Bytes written are what was made dirty on the disk; bytes read are those of read
calls, and mapped files do not show in them. Two things stand in for what the loop cannot run: a script for
`llama-quantize` and `llama-imatrix`, which llama.cpp's wheel lacks (half a second of Python more), and plain rounding
for `mlx_lm.gptq`, which fetches its text from the network and takes hours on a CPU (so much less than the real thing).
"""


@dataclass(frozen=True)
class Check:
    """One figure against its target."""

    name: str
    loop: str
    mill: str
    ratio: float
    allowed: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.allowed

    @property
    def verdict(self) -> str:
        return "met" if self.met else f"**missed by {self.ratio - self.allowed:.2f}**"


def text(matrices: Iterable[Matrix]) -> str:
    """The whole chapter."""
    return HEAD + "".join("\n" + "\n".join(_section(found)) + "\n" for found in matrices)


def checks(found: Matrix, convert: Arm, milling: Milling) -> list[Check]:
    """What the project has set itself. Ratios are of the mill to the loop, or to the source."""
    loop, mill, hungry = found.loop, convert.usage, found.hungriest
    source, most = found.source_bytes, max((len(line.kept) for line in milling.lines), default=0)
    downloaded = found.download.served if found.download else 0
    held = f"{_gib(hungry.usage.peak)} ({hungry.recipe})"
    return [
        Check("wall", _seconds(loop.wall), _seconds(mill.wall), mill.wall / loop.wall, 0.6),
        Check("CPU", _seconds(loop.cpu), _seconds(mill.cpu), mill.cpu / loop.cpu, 0.6),
        Check("peak memory, against the hungriest single tool", held, _gib(mill.peak), mill.peak / loop.peak, 1),
        Check("source downloaded", _gb(downloaded), _gb(convert.served), convert.served / source, 1.01),
        Check("intermediates kept by a backend, at most", "", str(most), most, 1),
    ]


def _section(found: Matrix) -> Iterator[str]:
    size = f"{found.parameters / 1e6:.0f} million parameters, {_gb(found.source_bytes)}"
    counted = ", ".join(f"{name} {sum(r.startswith(f'{name}/') for r in found.recipes)}" for name in found.backends)
    budget = "" if found.budget is None else f", memory budget of the mill {_gib(found.budget)}"
    yield f"### {found.title[0].upper()}{found.title[1:]}: {size}"
    yield ""
    yield f"{found.day} on {found.machine}{budget}."
    yield f"{len(found.recipes)} variants: {counted}."
    if found.convert is None or found.milling is None:
        return
    yield from _targets(found, found.convert, found.milling)
    yield ""
    yield f"![Wall and CPU time per backend](matrix-{found.size}.png)"
    yield from _company(found, found.convert)
    yield from _backends(found, found.convert, found.milling)
    yield from _note(found, found.convert, found.milling)
    yield from _variants(found, found.milling)


def _targets(found: Matrix, convert: Arm, milling: Milling) -> Iterator[str]:
    yield from ("", "| | plain loop | mill | ratio | target | |", "|---|---|---|---|---|---|")
    for check in checks(found, convert, milling):
        ratio = "" if check.loop == "" else f"{check.ratio:.3f}" if check.allowed == 1.01 else f"{check.ratio:.2f}"
        target = f"at most {check.allowed:g}"
        yield f"| {check.name} | {check.loop} | {check.mill} | {ratio} | {target} | {check.verdict} |"
    loop, mill = found.loop, convert.usage
    anonymous = f"{_gib(loop.anonymous)} | {_gib(mill.anonymous)} | {mill.anonymous / loop.anonymous:.2f}"
    yield f"| peak, anonymous alone | {anonymous} | | |"
    if found.round is not None:
        whole = found.round.usage
        took = f"{_seconds(whole.wall)}, {_seconds(whole.cpu)} CPU, {_gib(whole.peak)}"
        ratios = f"{whole.wall / loop.wall:.2f} wall, {whole.cpu / loop.cpu:.2f} CPU"
        ended = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(found.outcome.items()))
        yield f"| whole round: proven and published as well | | {took} | {ratios} | | {ended} |"


def _company(found: Matrix, convert: Arm) -> Iterator[str]:
    """How far the machine was somebody else's meanwhile."""
    runs = {"the loop": found.loop, "the mill's conversions": convert.usage}
    if found.round is not None:
        runs["the whole round"] = found.round.usage
    shares = {name: usage.others / usage.wall / found.cores for name, usage in runs.items()}
    yield ""
    told = ", ".join(f"{part:.0%} during {name}" for name, part in shares.items())
    yield f"Of the machine, other work took {told}."
    if max(shares.values()) > BUSY:
        yield "It was not quiet, so the figures are rough: threads that wait by spinning cost CPU time as well."


def _backends(found: Matrix, convert: Arm, milling: Milling) -> Iterator[str]:
    yield ""
    yield "Per backend, loop / mill. Backends overlap in the mill; there, wall is from a backend's first to its last."
    yield ""
    yield (
        "| backend | artifacts | wall, s | CPU, s | most anonymous, GiB | read, x source "
        "| written, x artifacts | intermediates, x source |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for line in milling.lines:
        tools = [tool for tool in found.naive if tool.backend == line.backend]
        yield _backend_row(found, line, tools, [c for c in milling.children if c.backend == line.backend])
    children, whole = milling.children, convert.usage
    cpu = whole.cpu - sum(child.cpu for child in children)
    read = (whole.read - sum(child.read for child in children)) / found.source_bytes
    written = (whole.written - sum(child.written for child in children)) / found.source_bytes
    yield f"| the mill itself | | | {cpu:.1f} | | {read:.1f} | {written:.1f} x source | |"


def _backend_row(found: Matrix, line: Line, tools: Sequence[Tool], children: Sequence[Child]) -> str:
    source, artifacts = found.source_bytes, sum(line.sizes.values())
    loop_artifacts = sum(tool.size for tool in tools)
    kept = [f"{size / source:.2f} ({name.partition('-')[0]})" for name, size in line.kept.items()]

    def both(of_tool: Callable[[Tool], float], of_child: Callable[[Child], float]) -> tuple[float, float]:
        return sum(map(of_tool, tools)), sum(map(of_child, children))

    cpu = both(lambda t: t.usage.cpu, lambda c: c.cpu)
    read = both(lambda t: t.usage.read, lambda c: c.read)
    written = both(lambda t: t.usage.written, lambda c: c.written)
    wall = sum(tool.usage.wall for tool in tools), line.ended - line.began
    most = max(tool.usage.anonymous for tool in tools) / GIB, max(child.peak for child in children) / GIB
    return (
        f"| {line.backend} | {_gb(loop_artifacts)} / {_gb(artifacts)} | {_pair(wall, 1)} | {_pair(cpu, 1)} | "
        f"{_pair(most, 2)} | {read[0] / source:.1f} / {read[1] / source:.1f} | "
        f"{written[0] / loop_artifacts:.2f} / {written[1] / artifacts:.2f} | {', '.join(kept) or 'none'} |"
    )


def _note(found: Matrix, convert: Arm, milling: Milling) -> Iterator[str]:
    """What was missed, and where the time and the memory went."""
    missed = [check.name for check in checks(found, convert, milling) if not check.met]
    yield ""
    yield f"Missed: {'; '.join(missed)}." if missed else "Every target is met."
    most = sorted(milling.children, key=lambda child: -child.cpu)[:SHOWN]
    whole = convert.usage
    spent = ", ".join(f"{child.recipe} {child.cpu:.0f} s ({100 * child.cpu / whole.cpu:.0f} %)" for child in most)
    yield f"Of the mill's {_seconds(whole.cpu)} CPU most went to {spent}."
    held = ", ".join(f"{name} {_gib(size)}" for name, size in whole.holders.items())
    yield f"At its peak the mill's memory was held by {held}."


def _variants(found: Matrix, milling: Milling) -> Iterator[str]:
    yield from ("", "<details><summary>Every variant</summary>", "")
    yield "| variant | loop: wall, s | CPU, s | anonymous, GiB | mill: wall, s | CPU, s | anonymous, GiB |"
    yield "|---|---|---|---|---|---|---|"
    made = {child.recipe: child for child in milling.children}
    for tool in found.naive:
        mine, child = tool.usage, made[tool.recipe]
        yield (
            f"| {tool.recipe} | {mine.wall:.1f} | {mine.cpu:.1f} | {mine.anonymous / GIB:.2f} "
            f"| {child.wall:.1f} | {child.cpu:.1f} | {child.peak / GIB:.2f} |"
        )
    yield from ("", "</details>")


def _pair(values: tuple[float, float], digits: int) -> str:
    return f"{values[0]:.{digits}f} / {values[1]:.{digits}f}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _gb(size: float) -> str:
    return f"{size / GB:.2f} GB" if size >= GB else f"{size / 1e6:.1f} MB"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
