"""How answers look on a terminal. Everything that came from outside passes through `cell`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bot.builds import Build, Phase, VariantResult
from bot.cli.output import plain
from bot.models import Recipe, Release, Status, Verdict
from bot.ui import words

if TYPE_CHECKING:
    from bot.doctor import Report, SigningState
    from bot.planning import Plan
    from bot.reader import CheckReport, Preview
    from bot.releases import ReleaseRow

GOOD, MIND, BAD, QUIET = "green", "yellow", "red", "dim"
VERDICT_STYLES = {
    Status.SUPPORTED: GOOD,
    Status.CAVEAT: MIND,
    Status.UNSUPPORTED: BAD,
    Status.KNOWN_BROKEN: BAD,
}
RESULT_STYLES = {
    "published": GOOD,
    "already_published": GOOD,
    "refused": MIND,
    "gate_failed": BAD,
    "failed": BAD,
}
AGAIN_STYLES = {"identical": GOOD, "same": GOOD, "differs": BAD, "not_rebuilt": MIND, "not_measured": MIND}
PHASE_STYLES = {
    Phase.WAITING: QUIET,
    Phase.RUNNING: "cyan",
    Phase.DONE: GOOD,
    Phase.FAILED: BAD,
    Phase.CANCELLED: MIND,
}
STATE_STYLES = {
    "published": GOOD,
    "building": "cyan",
    "waiting": QUIET,
    "refused": MIND,
    "failed": BAD,
    "stale": MIND,
    "unsuited": QUIET,
    "missing": QUIET,
}


def cell(value: object, style: str = "") -> Text:
    """Text exactly as it is: no markup, no escape sequences."""
    return Text(plain("" if value is None else value), style=style)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    made = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), expand=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def release(found: Release) -> Text:
    """One line on what was found on the Hub."""
    facts = f"  {found.architecture}, {words.parameters(found.parameters)}, {found.dtype}, "
    return Text.assemble(
        (plain(found.repo), "bold"),
        f"@{found.sha[:7]}",
        (plain(facts + words.size(found.weight_bytes)), QUIET),
    )


def _ready(versions: Mapping[str, str]) -> str:
    return "ready: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def verdicts(given: Sequence[Verdict], published: dict[str, str]) -> RenderableType:
    """What can be made of a release, and what it would cost."""
    shown = table(
        "recipe",
        "verdict",
        "size",
        "memory",
        "disk",
        "time",
        "there as",
        right=("size", "memory", "disk", "time"),
    )
    for verdict in given:
        needs = verdict.needs
        shown.add_row(
            cell(verdict.recipe),
            cell(words.verdict(verdict.status), VERDICT_STYLES[verdict.status]),
            cell(words.size(needs.output) if needs else ""),
            cell(words.size(needs.memory) if needs else ""),
            cell(words.size(needs.disk) if needs else ""),
            cell(words.minutes(needs.minutes) if needs else ""),
            cell(published.get(verdict.recipe)),
        )
    notes = [
        cell(f"{names}: {' '.join((reasons, *links))}".strip(), QUIET)
        for names, reasons, links in words.grounds(given)
    ]
    return Group(shown, *([Text(), *notes] if notes else []))


def check(report: CheckReport) -> RenderableType:
    return Group(release(report.release), Text(), verdicts(report.verdicts, report.published))


def plan(planned: Plan, previews: Sequence[Preview]) -> RenderableType:
    """What a conversion would do, and the cards it would write where something stands already."""
    parts: list[RenderableType] = [release(planned.release), Text(), verdicts(planned.verdicts, {}), Text()]
    for request in planned.builds:
        for target in request.targets:
            made = words.recipes(target.recipes) or "nothing, only its card and tag"
            parts.append(cell(f"Would build {made} with {request.backend}, to {target.repo} as {target.version}."))
    if not planned.builds:
        parts.append(cell("Nothing to build."))
    if planned.results:
        parts += [Text(), results(planned.results)]
    for preview in previews:
        parts += [Text(), cell(preview.repo, "bold"), *(cell(f"  {name}") for name in preview.files)]
        parts += [Text(), cell(preview.card)]
    return Group(*parts)


def results(ended: Sequence[VariantResult]) -> RenderableType:
    """How each variant ended."""
    shown = table("variant", "status", "size", "mean KL", "top-1", "where", right=("size", "mean KL", "top-1"))
    notes = [cell(f"{r.recipe}: {r.reason}", QUIET) for r in ended if r.reason]
    for result in ended:
        shown.add_row(
            cell(result.recipe),
            cell(words.result(result.status), RESULT_STYLES[result.status]),
            cell(words.size(result.bytes)),
            cell(words.nats(result.kl_mean)),
            cell(words.share(result.top1)),
            cell(words.where(result)),
        )
    return Group(shown, *([Text(), *_unique(notes)] if notes else []))


def builds(listed: Sequence[Build], paused: bool) -> RenderableType:
    """The queue and what came before."""
    parts: list[RenderableType] = []
    if paused:
        parts.append(cell("Paused. `phimill resume` lets builds go on.", MIND))
    if not listed:
        return Group(*parts, cell("No builds yet. `phimill convert REPO` starts one.", QUIET))
    shown = table("build", "source", "backend", "recipes", "phase", "", "asked for")
    for build in listed:
        percent = build.progress.percent if build.progress else None
        doing = words.outcome(build) + (f" {percent:.0f} %" if percent is not None else "")
        shown.add_row(
            cell(words.short(build.id), "bold"),
            cell(words.source(build.request)),
            cell(build.request.backend),
            cell(words.recipes(build.request.recipes)),
            cell(build.phase, PHASE_STYLES[build.phase]),
            cell(doing),
            cell(words.ago(build.created), QUIET),
        )
    return Group(*parts, shown)


def build(one: Build) -> RenderableType:
    """Everything about one build."""
    head = table("build", words.short(one.id))
    for name, value in (
        ("source", words.source(one.request)),
        ("backend", one.request.backend),
        ("recipes", words.recipes(one.request.recipes)),
        ("to", words.targets(one.request)),
        ("phase", f"{one.phase}: {words.outcome(one)}".rstrip(": ")),
        ("asked for", f"{words.ago(one.created)}, by {'a person' if one.person else 'the watcher'}"),
    ):
        head.add_row(cell(name, QUIET), cell(value))
    parts: list[RenderableType] = [head]
    if one.failure and one.failure.hint:
        parts += [Text(), cell(one.failure.hint, MIND)]
    if one.results:
        parts += [Text(), results(one.results)]
    return Group(*parts)


def releases(rows: Sequence[ReleaseRow]) -> RenderableType:
    """Every watched release and where each of its variants stands."""
    if not rows:
        return cell("No Phi release found in the watched organisations.", QUIET)
    shown = table("release", "recipe", "state", "tag", "mean KL", "", right=("mean KL",))
    last = None
    for row in rows:
        name = f"{row.repo}@{row.sha[:7]}" if row.repo != last else ""
        last = row.repo
        shown.add_row(
            cell(name, "bold"),
            cell(row.recipe),
            cell(row.state, STATE_STYLES[row.state]),
            cell(row.tag),
            cell(words.nats(row.kl)),
            cell(row.detail, QUIET),
        )
    return shown


def recipes(known: Sequence[Recipe]) -> RenderableType:
    shown = table("recipe", "makes", "precision", "bits", "preset", "for", right=("bits",))
    for recipe in known:
        shown.add_row(
            cell(recipe.id, "bold" if recipe.default else ""),
            cell(recipe.title),
            cell(recipe.precision),
            cell(f"{recipe.bits_per_weight:g}"),
            cell(recipe.preset + (", default" if recipe.default else "")),
            cell(recipe.suits),
        )
    return shown


def doctor(report: Report) -> RenderableType:
    """The machine, the toolchains, the Hub, and what stands in the way."""
    machine, hub = report.machine, report.hub
    shown = table("", "")
    shown.show_header = False
    rows = [
        ("machine", f"{machine.system}, Python {machine.python}, {machine.cores} cores"),
        ("memory", f"{words.size(machine.memory)}, a converter may hold {words.size(machine.memory_budget)}"),
        ("home", f"{machine.home} ({words.size(machine.home_free)} free)"),
        ("toolchains", f"{machine.toolchains} ({words.size(machine.toolchains_free)} free)"),
        ("sandbox", report.sandbox),
    ]
    rows += [(b.backend, _ready(b.versions) if b.ready else "made at the first build") for b in report.backends]
    account = f", as {hub.name} ({hub.role or 'no role'})" if hub.name else ""
    rows.append(("Hub", f"{hub.endpoint}, {'reachable' if hub.reachable else 'not reachable'}{account}"))
    rows.append(("signing", _signing(report.signing)))
    for name, value in rows:
        shown.add_row(cell(name, QUIET), cell(value))
    ending = [cell(problem, BAD) for problem in report.problems] or [cell("Builds can run here.", GOOD)]
    return Group(shown, Text(), *ending)


def _signing(state: SigningState) -> str:
    if state.problem:
        return "the key cannot be used"
    return f"with the key {state.fingerprint}" if state.fingerprint else "no key: what is published is not signed"


def _unique(notes: Sequence[Text]) -> list[Text]:
    return list({note.plain: note for note in notes}.values())
