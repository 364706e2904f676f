"""How numbers, times and states are spelled for people, on the terminal and on the page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from bot.builds import Awaits, Build, BuildRequest, LogLine, Phase, Progress, VariantResult
from bot.models import Status, Verdict

VERDICT_WORDS = {
    Status.SUPPORTED: "yes",
    Status.CAVEAT: "yes, with a caveat",
    Status.UNSUPPORTED: "no",
    Status.KNOWN_BROKEN: "no, known broken",
}
RESULT_WORDS = {
    "published": "published",
    "already_published": "already there",
    "gate_failed": "failed the gate",
    "refused": "refused",
    "failed": "failed",
}


def size(count: float | None) -> str:
    """Bytes as people read them: 12.3 MB (1 MB is a million bytes, as on the Hub)."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def parameters(count: int) -> str:
    """How large a model is."""
    return f"{count / 1e9:.1f} B parameters" if count >= 1e9 else f"{count / 1e6:.1f} M parameters"


def nats(value: float | None) -> str:
    """A KL divergence."""
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def share(value: float | None) -> str:
    """A share of one, as a percentage."""
    return "" if value is None else f"{100 * value:.1f} %"


def minutes(value: float) -> str:
    """How long something is expected to take."""
    if value < 1:
        return "< 1 min"
    return f"{value:.0f} min" if value < 90 else f"{value / 60:.1f} h"


def left(seconds: float | None) -> str:
    """What is left of a stage."""
    if seconds is None:
        return ""
    whole = int(seconds)
    return f"{whole} s left" if whole < 90 else f"{whole // 60} min left"


def ago(then: datetime | None, now: datetime | None = None) -> str:
    """How long ago something was."""
    if then is None:
        return ""
    seconds = int(((now or datetime.now(UTC)) - then).total_seconds())
    if seconds < 60:
        return "just now"
    for limit, unit, word in ((3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {word} ago"
    days = seconds // 86400
    return "yesterday" if days == 1 else f"{days} days ago"


def _count(value: float, unit: str) -> str:
    """One of the two numbers of a progress report."""
    return size(value) if unit in ("B", "bytes") else f"{value:g}"


def amount(progress: Progress) -> str:
    """How far a stage is: `12.3 MB of 45.6 MB`, `3 of 12 windows`, or nothing where it does not count."""
    if not progress.total:
        return ""
    done, total = _count(progress.done, progress.unit), _count(progress.total, progress.unit)
    unit = "" if progress.unit in ("", "B", "bytes") else f" {progress.unit}"
    return f"{done} of {total}{unit}"


def doing(progress: Progress) -> str:
    """What a running build is doing."""
    return f"{progress.stage} {progress.recipe}" if progress.recipe else progress.stage


def short(build_id: str) -> str:
    """Enough of a build's id to name it, on a page or to a command."""
    return build_id[:8]


def source(request: BuildRequest) -> str:
    """What a build is made from."""
    return f"{request.repo}@{request.sha[:7]}"


def recipes(names: Sequence[str]) -> str:
    """Recipes of one backend, without repeating the backend's name."""
    return ", ".join(name.split("/", 1)[-1] for name in names) or "card only"


def outcome(build: Build) -> str:
    """One phrase for where a build stands: what it is doing, what it waits for, or how it ended."""
    if build.awaits is Awaits.SIGN_IN:
        return f"waits for {build.request.asker} to sign in again"
    if build.phase is Phase.WAITING:
        return f"number {build.position} in the queue" if build.position else "in the queue"
    if build.phase is Phase.RUNNING:
        return doing(build.progress) if build.progress else "starting"
    if build.failure:
        return build.failure.message
    return tally(build.results)


def tally(results: Sequence[VariantResult]) -> str:
    """How many variants ended how: `3 published, 1 refused`."""
    counts: dict[str, int] = {}
    for result in results:
        counts[RESULT_WORDS[result.status]] = counts.get(RESULT_WORDS[result.status], 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def targets(request: BuildRequest) -> str:
    """Where a build publishes to: `owner/name as v1.0`, or how many repos there are."""
    if len(request.targets) == 1:
        return f"{request.targets[0].repo} as {request.targets[0].version}"
    return f"{len(request.targets)} repos of {request.namespace}"


def said(line: LogLine) -> str:
    """A log line's text, without the name of its stage where that is shown beside it."""
    return line.text.removeprefix(line.stage).strip()


def grounds(verdicts: Sequence[Verdict]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Why verdicts are as they are: (the recipes, the reasons, links), one entry for all that have the same."""
    same: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for verdict in verdicts:
        if verdict.reasons or verdict.links:
            same.setdefault((" ".join(verdict.reasons), verdict.links), []).append(verdict.recipe)
    return [
        ("Every recipe" if len(names) == len(verdicts) > 1 else ", ".join(names), reasons, links)
        for (reasons, links), names in same.items()
    ]


def where(result: VariantResult) -> str:
    """Where a variant was published: `owner/name@v1.0`."""
    if not result.repo or result.status not in ("published", "already_published"):
        return ""
    return f"{result.repo}@{result.tag}" if result.tag else result.repo


def pull_lines(repo: str, tag: str, file: str, endpoint: str, hf: str, python: str) -> tuple[str, ...]:
    """The shell lines that pull a published file from the Hub at `endpoint`: with `hf`, and with llama.cpp."""
    setting = f"HF_ENDPOINT={shlex.quote(endpoint)}"
    code = (
        "from llama_cpp import Llama; "
        f'llm = Llama.from_pretrained("{repo}", "{file}", n_ctx=2048, verbose=False); '
        'print(llm("Once upon a time", max_tokens=16)["choices"][0]["text"])'
    )
    return (
        f"{setting} {hf} download {shlex.join((repo, file, '--revision', tag))}",
        f"{setting} {python} -c {shlex.quote(code)}",
    )
