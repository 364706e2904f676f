"""The page over a fake mill, as a process of its own: `python page_server.py PORT`."""

from __future__ import annotations

import sys

import uvicorn
from fake_mill import NOON, SHA, TARGET, FakeMill, build, published, request, verdict

from bot.api import create_app
from bot.builds import Build, Failure, LogLine, Phase, Progress, VariantResult
from bot.comparison import Compared
from bot.models import Status
from bot.planning import Plan
from bot.releases import ReleaseRow
from bot.search import Found
from bot.settings import Settings
from bot.visitor import OPERATOR, Visitor

TABS = ("builds", "releases", "compare", "convert", "advice", "programs")
EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{constructor}}"


class SteadyMill(FakeMill):
    """Tests come in any order: what one of them asks for is not seen by the next."""

    def submit(self, plan: Plan, *, person: bool, by: Visitor = OPERATOR) -> tuple[Build, ...]:
        before = list(self.known)
        begun = super().submit(plan, person=person, by=by)
        self.known = before
        return begun


def released() -> tuple[ReleaseRow, ...]:
    """A release with a variant of every kind, and so many others that there are pages."""
    new, old = "microsoft/Phi-4-mini", [f"microsoft/Phi-old-{number}" for number in range(25)]
    there = {"tag": "v1.0", "kl": 0.01, "date": NOON, "url": f"https://huggingface.co/{TARGET}"}
    return (
        ReleaseRow(repo=new, sha=SHA, recipe="gguf/int4", state="published", **there),
        ReleaseRow(repo=new, sha=SHA, recipe="gguf/int8", state="refused", detail=EVIL),
        ReleaseRow(repo=new, sha=SHA, recipe="gguf/q4_0", state="failed", detail="It broke.", build=f"{'c' * 32}-1"),
        ReleaseRow(
            repo=new, sha=SHA, recipe="mlx/fp32", state="unsuited", detail="It is for models without LongRoPE."
        ),
        *(ReleaseRow(repo=repo, sha=SHA, recipe="onnx/int4", state="missing") for repo in old),
    )


def compared() -> tuple[Compared, ...]:
    """Variants of two backends, one of them with a hostile name."""
    common = {"repo": TARGET, "tag": "v1.0", "top1": 0.93, "perplexity_ratio": 1.02}
    return (
        Compared(recipe="gguf/int4", backend="gguf", title="INT4 (Q4_K_M)", size=2_000_000_000, kl=0.02, **common),
        Compared(recipe="gguf/bf16", backend="gguf", title="BF16, as it is", size=8_000_000_000, kl=0.0, **common),
        Compared(recipe="mlx/int4", backend="mlx", title=EVIL, size=2_100_000_000, kl=0.05, **common),
    )


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
    mill.rows, mill.compared = released(), compared()
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
