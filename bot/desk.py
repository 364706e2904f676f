"""The front desk: what people may ask of the mill. Every face that strangers can reach goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot import releases
from bot.builds import Build, LogLine
from bot.errors import AccessDenied
from bot.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.advisor import Advice
    from bot.comparison import Compared
    from bot.mill import CheckReport, Mill, Plan, ReleaseRow


class Desk:
    """Passes on to the mill what a visitor may ask for, and says why not where they may not."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill
        self.settings = mill.settings

    def check(self, visitor: Visitor, text: str, namespace: str | None = None) -> CheckReport:
        """The verdict per recipe; a visitor is shown what they may see on the Hub themselves."""
        return self.mill.check(text, namespace, anonymous=not visitor.operator)

    def advise(
        self, visitor: Visitor, text: str, device: str, memory: int | None = None, context: int | None = None
    ) -> Advice:
        """Which variant of a release is for a device."""
        return self.mill.advise(text, device, memory, context, anonymous=not visitor.operator)

    def releases(self, visitor: Visitor) -> tuple[ReleaseRow, ...]:
        """Every watched release x every recipe that is made of it, and where it stands, as the visitor may see it."""
        rows = self.mill.releases()
        return rows if visitor.operator else releases.public(rows)

    def compare(self, visitor: Visitor, text: str) -> tuple[Compared, ...]:
        """Every published variant of a release, as far as the visitor may see them."""
        return self.mill.compare(text, anonymous=not visitor.operator)

    def may_build(self, visitor: Visitor) -> bool:
        """Whether the visitor may start builds at all."""
        return visitor.operator

    def plan(self, visitor: Visitor, text: str, asked: Sequence[str], namespace: str | None) -> Plan:
        """What would be made, and where it would go.

        Raises:
            AccessDenied: the visitor may not build.
        """
        self._require(visitor)
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
