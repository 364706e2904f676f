"""`phimill check` and `phimill convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot.cli.app import NamespaceOption, RepoArgument, opened_mill
from bot.cli.output import FormatOption, Output, as_json
from bot.cli.stopping import resumable
from bot.errors import VerdictRefused

if TYPE_CHECKING:
    from bot.builds import Build, VariantResult
    from bot.mill import Mill
    from bot.planning import Plan

RecipesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="ID",
        help="A recipe, a backend, or `all`; may be repeated. Default: the default recipes.",
    ),
]


commands = typer.Typer()


@commands.command()
def check(context: typer.Context, repo: RepoArgument, to: NamespaceOption = None, format: FormatOption = None) -> None:
    """Say what can be made of a release, from its metadata alone.

    Exits with 3 when nothing can.
    """
    from bot.cli import render

    output = Output.of(context, format)
    with opened_mill() as mill:
        report = mill.reader().check(repo, to)
    output.answer(report, lambda: render.check(report))
    if not any(verdict.convertible for verdict in report.verdicts):
        raise typer.Exit(VerdictRefused.exit_code)


@commands.command()
def convert(
    context: typer.Context,
    repo: RepoArgument,
    recipe: RecipesOption = None,
    to: NamespaceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and the model cards.")] = False,
    format: FormatOption = None,
) -> None:
    """Convert a release, prove every variant against its source, and publish what passes.

    What is already published is left as it is. Interrupted, the same command goes on where it stopped.
    """
    from bot.cli.outcome import exit_code
    from bot.cli.render import results as shown

    output = Output.of(context, format)
    asked = recipe or []
    with opened_mill() as mill:
        plan = mill.reader().plan(repo, asked, to)
        if dry_run:
            _show_plan(mill, plan, output)
            return
        builds = _build(mill, plan, output) if plan.builds else ()
        results = (*plan.results, *(result for build in builds for result in build.results))
        output.answer(_as_object(plan, results, builds), lambda: shown(results))
    for build in builds:
        if build.failure is not None:
            output.error(build.failure.error())
    raise typer.Exit(exit_code(results, builds, all_wanted=bool(asked)))


def _build(mill: Mill, plan: Plan, output: Output) -> tuple[Build, ...]:
    from bot.cli.progress import follow

    # The watcher of this home may be at work already; then it takes the builds, and this process looks on.
    with resumable(output), mill.helping() as tend:
        return follow(mill, mill.submit(plan, person=True), output, tend)


def _show_plan(mill: Mill, plan: Plan, output: Output) -> None:
    from bot.cli import render

    previews = mill.reader().preview(plan)
    value = {**_as_object(plan, plan.results, ()), "verdicts": plan.verdicts, "repos": plan.repos}
    value |= {"would_build": plan.builds, "previews": previews}
    output.answer(value, lambda: render.plan(plan, previews))


def _as_object(plan: Plan, results: tuple[VariantResult, ...], builds: tuple[Build, ...]) -> dict[str, Any]:
    """What `--format json` prints. `build` is an id, or a list where several backends were at work."""
    ids = [build.id for build in builds]
    return {
        "release": {"repo": plan.release.repo, "sha": plan.release.sha},
        "variants": as_json(results),
        "build": ids[0] if len(ids) == 1 else ids or None,
    }
