"""The page over a fake mill, as a process of its own: `python page_server.py PORT`."""

from __future__ import annotations

import sys

import uvicorn
from fake_mill import NOON, SHA, FakeMill, build, published, request, verdict

from bot.api import create_app
from bot.builds import Build, Failure, LogLine, Phase, Progress, VariantResult
from bot.mill import Plan, ReleaseRow
from bot.models import Status
from bot.search import Found
from bot.settings import Settings

TABS = ("builds", "releases", "convert", "advice")
EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{constructor}}"


class SteadyMill(FakeMill):
    """Tests come in any order: what one of them asks for is not seen by the next."""

    def submit(self, plan: Plan, *, person: bool) -> tuple[Build, ...]:
        before = list(self.known)
        begun = super().submit(plan, person=person)
        self.known = before
        return begun


def filled_mill() -> FakeMill:
    """A mill with a build of every kind, and hostile words wherever words come from outside."""
    mill = SteadyMill(Settings(namespace="phimill"))
    going = Progress(
        stage="convert", recipe="gguf/int4", done=3e8, total=1.2e9, unit="B", eta=75, memory=2_500_000_000
    )
    refused = VariantResult(recipe="gguf/fp32", status="refused", reason=EVIL)
    mill.known = [
        build("a" * 32, Phase.RUNNING, progress=going),
        build("b" * 32, Phase.WAITING, position=1),
        build("c" * 32, Phase.FAILED, failure=Failure(code="error", message=EVIL, hint=EVIL)),
        build("d" * 32, results=(published("gguf/int4"), refused)),
        build("e" * 32, Phase.CANCELLED, asked=request(repo=f"microsoft/{EVIL}")),
    ]
    mill.lines = [
        LogLine(number=n, at=NOON, level="info", stage="prove", text=f"line {n} {EVIL}") for n in range(1, 60)
    ]
    mill.rows = (
        ReleaseRow(repo="microsoft/Phi-4", sha=SHA, recipe="gguf/int4", state="published", tag="v1.0", kl=0.01),
        ReleaseRow(repo="microsoft/Phi-4", sha=SHA, recipe="gguf/int8", state="refused", detail=EVIL),
    )
    mill.verdicts = (
        verdict("gguf/int4"),
        verdict("gguf/int8", Status.CAVEAT, EVIL),
        verdict("gguf/fp16", Status.UNSUPPORTED, EVIL),
    )
    mill.findable = (*mill.findable, Found(repo=f"mallory/{EVIL}", release=False))
    mill.finished = ("release", "convert gguf/fp16", "prove gguf/fp16")
    return mill


if __name__ == "__main__":
    uvicorn.run(create_app(filled_mill()), port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
