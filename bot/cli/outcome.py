"""Which exit code a conversion deserves."""

from __future__ import annotations

from collections.abc import Sequence

from bot.builds import Build, Phase, VariantResult
from bot.errors import BuildCancelled, GateFailed, PhimillError, VerdictRefused

THERE = ("published", "already_published")


def exit_code(results: Sequence[VariantResult], builds: Sequence[Build], *, all_wanted: bool) -> int:
    """The gravest thing that happened: a failed build, a failed variant, a closed gate, a refusal.

    With `all_wanted` (recipes were named) one refusal is enough; otherwise it counts when nothing is there.
    """
    for build in builds:
        if build.failure is not None and build.failure.code != GateFailed.code:
            return build.failure.error().exit_code
        if build.phase is Phase.CANCELLED:
            return BuildCancelled.exit_code
    found = {result.status for result in results}
    if "failed" in found:
        return PhimillError.exit_code
    if "gate_failed" in found or any(build.failure for build in builds):
        return GateFailed.exit_code
    if "refused" in found and (all_wanted or found.isdisjoint(THERE)):
        return VerdictRefused.exit_code
    return 0
