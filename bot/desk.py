"""The front desk: what people may ask of the mill. Every face that strangers can reach goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.builds import Build, LogLine
from bot.errors import AccessDenied, UsageError
from bot.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.advisor import Advice
    from bot.mill import CheckReport, Mill, Plan, ReleaseRow
    from bot.recipes import Snippet
    from bot.search import Found


class Desk:
    """Passes on to the mill what a visitor may ask for, and says why not where they may not."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill
        self.settings = mill.settings

    def check(self, visitor: Visitor, text: str, namespace: str | None = None) -> CheckReport:
        """The verdict per recipe; a visitor is shown what they may see on the Hub themselves."""
        return self.mill.check(text, namespace, anonymous=not visitor.operator)

    def search(self, visitor: Visitor, text: str) -> tuple[Found, ...]:
        """Repos by a few letters of their names, Phi releases first."""
        return self.mill.search(text, anonymous=not visitor.operator)

    def namespaces(self, visitor: Visitor) -> tuple[str, ...]:
        """The accounts that the visitor may publish to, the usual one first."""
        return self.mill.namespaces() if self.may_build(visitor) else ()

    def advise(
        self, visitor: Visitor, text: str, device: str, memory: int | None = None, context: int | None = None
    ) -> Advice:
        """Which variant of a release is for a device."""
        return self.mill.advise(text, device, memory, context, anonymous=not visitor.operator)

    def releases(self) -> tuple[ReleaseRow, ...]:
        """Every watched release x every default recipe, and where it stands."""
        return self.mill.releases()

    def may_build(self, visitor: Visitor) -> bool:
        """Whether the visitor may start builds at all."""
        return visitor.operator

    def plan(
        self, visitor: Visitor, text: str, asked: Sequence[str], namespace: str | None, *, private: bool = False
    ) -> Plan:
        """What would be made, and where it would go; with `private`, into repos that nobody else sees.

        Raises:
            AccessDenied: the visitor may not build.
            UsageError: repos of a public release are public.
        """
        self._require(visitor)
        if private:
            raise UsageError("A public release is published publicly here.", "Leave out `private`.")
        return self.mill.plan(text, asked, namespace)

    def submit(self, visitor: Visitor, plan: Plan) -> tuple[Build, ...]:
        """Queue the plan's builds.

        Raises:
            AccessDenied: the visitor may not build.
        """
        self._require(visitor)
        return self.mill.submit(plan, person=True)

    def builds(self, visitor: Visitor, limit: int = 50) -> tuple[Build, ...]:
        """The newest builds that the visitor may see, newest first."""
        return self.mill.builds(limit)

    def build(self, visitor: Visitor, id_prefix: str) -> Build:
        """The one build whose id starts so, if the visitor may see it."""
        return self.mill.build(id_prefix)

    def log(self, visitor: Visitor, build_id: str, after: int = 0) -> tuple[LogLine, ...]:
        """A build's log lines numbered above `after`, if the visitor may see it."""
        return self.mill.log(build_id, after)

    def steps(self, visitor: Visitor, build_id: str) -> tuple[str, ...]:
        """The steps that a build has finished, if the visitor may see it."""
        return self.mill.steps(build_id)

    def pull(self, visitor: Visitor, repo: str) -> tuple[Snippet, ...]:
        """How to get and run what stands in a repo, as its card says it."""
        return self.mill.pull(repo)

    def may_end(self, visitor: Visitor, build: Build) -> bool:
        """Whether the visitor may cancel or retry this build."""
        return visitor.operator

    def cancel(self, visitor: Visitor, id_prefix: str) -> Build:
        """Stop a build for good.

        Raises:
            AccessDenied: it is not the visitor's.
        """
        self._require(visitor)
        return self.mill.cancel(id_prefix)

    def retry(self, visitor: Visitor, id_prefix: str) -> Build:
        """Begin a failed or cancelled build again.

        Raises:
            AccessDenied: it is not the visitor's.
        """
        self._require(visitor)
        return self.mill.retry(id_prefix)

    def _require(self, visitor: Visitor) -> None:
        if not self.may_build(visitor):
            raise AccessDenied(
                "This page does not convert for strangers.",
                "Run phimill yourself, with your own token: phimill convert OWNER/NAME --to YOUR-NAME.",
            )
