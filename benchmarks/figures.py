"""What a run of the matrix benchmark found, as it is kept in docs/benchmarks/*.json and drawn from there."""

from __future__ import annotations

from pydantic import Field

from bot.models import Frozen


class Usage(Frozen):
    """What one command and everything it started took. Seconds and bytes.

    `peak` is the sum of PSS (a shared page counts once), the highest of five looks a second; `anonymous` is the same
    without mapped files, which the kernel can drop. `holders` says who held the peak. `read` is what came through read
    calls (mapped files do not show), `written` what was made dirty on a disk. `others` is the CPU time that the rest
    of the machine took meanwhile, the benchmark's Hub included.
    """

    wall: float = 0
    cpu: float = 0
    peak: int = 0
    anonymous: int = 0
    holders: dict[str, int] = Field(default_factory=dict)
    read: int = 0
    written: int = 0
    others: float = 0
    code: int = 0


class Tool(Frozen):
    """One variant made by the upstream tools alone. `size` is the variant's own files."""

    recipe: str
    backend: str
    usage: Usage
    size: int


class Child(Frozen):
    """One converter that the mill ran."""

    backend: str
    recipe: str
    wall: float
    cpu: float
    peak: int
    read: int
    written: int


class Line(Frozen):
    """One backend's conversions in the mill. Seconds since the mill was started; `kept` are its intermediates."""

    backend: str
    began: float
    ended: float
    sizes: dict[str, int]
    kept: dict[str, int]


class Milling(Frozen):
    """The mill's conversions, without proving."""

    lines: tuple[Line, ...]
    children: tuple[Child, ...]


class Arm(Frozen):
    """One way of doing it all. `served` is what the Hub sent of the source's files."""

    usage: Usage
    served: int


class Matrix(Frozen):
    """One size, both ways. What has not been measured yet is empty."""

    size: str
    title: str
    parameters: int
    source_bytes: int
    machine: str
    day: str
    cores: int
    backends: tuple[str, ...]
    recipes: tuple[str, ...]
    budget: int | None = None
    download: Arm | None = None
    naive: tuple[Tool, ...] = ()
    convert: Arm | None = None
    milling: Milling | None = None
    round: Arm | None = None
    outcome: dict[str, int] = Field(default_factory=dict)

    @property
    def loop(self) -> Usage:
        """The plain loop as a whole: the source downloaded, then every tool after the other."""
        parts = [tool.usage for tool in self.naive] + ([self.download.usage] if self.download else [])
        return Usage(
            wall=sum(u.wall for u in parts),
            cpu=sum(u.cpu for u in parts),
            peak=max(u.peak for u in parts),
            anonymous=max(u.anonymous for u in parts),
            read=sum(u.read for u in parts),
            written=sum(u.written for u in parts),
            others=sum(u.others for u in parts),
        )

    @property
    def hungriest(self) -> Tool:
        """The tool that held the most memory."""
        return max(self.naive, key=lambda tool: tool.usage.peak)
