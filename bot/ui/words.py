"""How numbers, times and states are spelled for people, on the terminal and on the page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from bot.builds import Awaits, Build, BuildRequest, LogLine, Phase, Progress, VariantResult
from bot.models import Status, Verdict
from bot.ui.language import ENGLISH, say


def verdict(status: Status, language: str = ENGLISH) -> str:
    """Whether something can be made."""
    return say(language, f"words.verdict_{status.value}")


def result(status: str, language: str = ENGLISH) -> str:
    """How a variant ended."""
    return say(language, f"words.result_{status}")


def phase(value: Phase, language: str = ENGLISH) -> str:
    """The state of a build."""
    return say(language, f"words.phase_{value.value}")


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


def parameters(count: int, language: str = ENGLISH) -> str:
    """How large a model is."""
    short = f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
    return say(language, "words.parameters", count=short)


def nats(value: float | None) -> str:
    """A KL divergence."""
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def share(value: float | None) -> str:
    """A share of one, as a percentage."""
    return "" if value is None else f"{100 * value:.1f} %"


def minutes(value: float, language: str = ENGLISH) -> str:
    """How long something is expected to take."""
    if value < 1:
        return say(language, "words.short_while")
    if value < 90:
        return say(language, "words.minutes", count=f"{value:.0f}")
    return say(language, "words.hours", count=f"{value / 60:.1f}")


def left(seconds: float | None, language: str = ENGLISH) -> str:
    """What is left of a stage."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 90:
        return say(language, "words.seconds_left", count=whole)
    return say(language, "words.minutes_left", count=whole // 60)


def ago(then: datetime | None, now: datetime | None = None, language: str = ENGLISH) -> str:
    """How long ago something was."""
    if then is None:
        return ""
    seconds = int(((now or datetime.now(UTC)) - then).total_seconds())
    if seconds < 60:
        return say(language, "words.just_now")
    for limit, unit, word in ((3600, 60, "minutes"), (86400, 3600, "hours")):
        if seconds < limit:
            return say(language, f"words.{word}_ago", count=seconds // unit)
    days = seconds // 86400
    return say(language, "words.yesterday") if days == 1 else say(language, "words.days_ago", count=days)


def _count(value: float, unit: str) -> str:
    """One of the two numbers of a progress report."""
    return size(value) if unit in ("B", "bytes") else f"{value:g}"


def amount(progress: Progress, language: str = ENGLISH) -> str:
    """How far a stage is: `12.3 MB of 45.6 MB`, `3 of 12 windows`, or nothing where it does not count."""
    if not progress.total:
        return ""
    done, total = _count(progress.done, progress.unit), _count(progress.total, progress.unit)
    unit = "" if progress.unit in ("", "B", "bytes") else f" {progress.unit}"
    return say(language, "words.amount", done=done, total=total) + unit


def doing(progress: Progress) -> str:
    """What a running build is doing."""
    return f"{progress.stage} {progress.recipe}" if progress.recipe else progress.stage


def short(build_id: str) -> str:
    """Enough of a build's id to name it, on a page or to a command."""
    return build_id[:8]


def source(request: BuildRequest) -> str:
    """What a build is made from."""
    return f"{request.repo}@{request.sha[:7]}"


def recipes(names: Sequence[str], language: str = ENGLISH) -> str:
    """Recipes of one backend, without repeating the backend's name."""
    return ", ".join(name.split("/", 1)[-1] for name in names) or say(language, "words.card_only")


def outcome(build: Build, language: str = ENGLISH) -> str:
    """One phrase for where a build stands: what it is doing, what it waits for, or how it ended."""
    if build.awaits is Awaits.SIGN_IN:
        return say(language, "words.awaits_sign_in", asker=build.request.asker)
    if build.phase is Phase.WAITING:
        if build.position:
            return say(language, "words.place_in_queue", position=build.position)
        return say(language, "words.in_queue")
    if build.phase is Phase.RUNNING:
        return doing(build.progress) if build.progress else say(language, "words.starting")
    if build.failure:
        return build.failure.message
    return tally(build.results, language)


def tally(results: Sequence[VariantResult], language: str = ENGLISH) -> str:
    """How many variants ended how: `3 published, 1 refused`."""
    counts: dict[str, int] = {}
    for ended in results:
        word = result(ended.status, language)
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def targets(request: BuildRequest, language: str = ENGLISH) -> str:
    """Where a build publishes to: `owner/name as v1.0`, or how many repos there are."""
    if len(request.targets) == 1:
        [target] = request.targets
        return say(language, "words.target", repo=target.repo, version=target.version)
    return say(language, "words.targets", count=len(request.targets), owner=request.namespace)


def said(line: LogLine) -> str:
    """A log line's text, without the name of its stage where that is shown beside it."""
    return line.text.removeprefix(line.stage).strip()


def grounds(verdicts: Sequence[Verdict], language: str = ENGLISH) -> list[tuple[str, str, tuple[str, ...]]]:
    """Why verdicts are as they are: (the recipes, the reasons, links), one entry for all that have the same."""
    same: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for given in verdicts:
        if given.reasons or given.links:
            same.setdefault((" ".join(given.reasons), given.links), []).append(given.recipe)
    return [
        (say(language, "words.every_recipe") if len(names) == len(verdicts) > 1 else ", ".join(names), reasons, links)
        for (reasons, links), names in same.items()
    ]


def where(ended: VariantResult) -> str:
    """Where a variant was published: `owner/name@v1.0`."""
    if not ended.repo or ended.status not in ("published", "already_published"):
        return ""
    return f"{ended.repo}@{ended.tag}" if ended.tag else ended.repo


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
