"""The front desk: what people may ask of the mill. Every face that strangers can reach goes through here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bot import releases
from bot.accounts import accounts
from bot.builds import Build, BuildRequest, LogLine
from bot.errors import AccessDenied
from bot.limits import Limits
from bot.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.accounts import Account
    from bot.advisor import Advice
    from bot.comparison import Compared
    from bot.mill import Mill
    from bot.planning import Plan
    from bot.reader import CheckReport
    from bot.recipes import Snippet
    from bot.releases import ReleaseRow
    from bot.search import Found

RECENT = 20  # builds by which the queue's pace is judged


class Desk:
    """Passes on to the mill what a visitor may ask for, and says why not where they may not."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill
        self.settings = mill.settings
        self._limits = Limits(mill.settings)
        self._one_at_a_time = threading.Lock()

    def check(self, visitor: Visitor, text: str, namespace: str | None = None) -> CheckReport:
        """The verdict per recipe; a visitor is shown what they may see on the Hub themselves.

        Raises:
            Busy: too many questions from one address.
        """
        self._limits.read(visitor)
        return self.mill.reader(visitor).check(text, namespace)

    def search(self, visitor: Visitor, text: str) -> tuple[Found, ...]:
        """Public repos by a few letters of their names, Phi releases first; for the operator all the mill sees.

        Raises:
            Busy: too many searches from one address.
        """
        self._limits.search(visitor)
        return self.mill.search(text, anonymous=not visitor.operator)

    def advise(
        self, visitor: Visitor, text: str, device: str, memory: int | None = None, context: int | None = None
    ) -> Advice:
        """Which variant of a release is for a device. Raises as `check`."""
        self._limits.read(visitor)
        return self.mill.reader(visitor).advise(text, device, memory, context)

    def releases(self, visitor: Visitor) -> tuple[ReleaseRow, ...]:
        """Every watched release x every recipe that is made of it, and where it stands, as the visitor may see it.
        Nothing of people's own builds.
        """
        rows = self.mill.releases()
        return rows if visitor.operator else releases.public(rows)

    def compare(self, visitor: Visitor, text: str) -> tuple[Compared, ...]:
        """Every published variant of a release, as far as the visitor may see them. Raises as `check`."""
        self._limits.read(visitor)
        return self.mill.reader(visitor).compare(text)

    def may_build(self, visitor: Visitor) -> bool:
        """Whether the visitor may start builds at all: there is their token, or for the operator the mill's."""
        return visitor.operator or (visitor.name is not None and visitor.token is not None)

    def namespaces(self, visitor: Visitor) -> tuple[str, ...]:
        """Where the visitor may publish to, their own account first. Nowhere for a stranger, or with a token that only
        reads.

        Raises:
            HubUnreachable
        """
        if visitor.operator:
            return self.mill.namespaces()
        account = self._account(visitor)
        return account.writable if account else ()

    def plan(
        self, visitor: Visitor, text: str, asked: Sequence[str], namespace: str | None, private: bool = False
    ) -> Plan:
        """What would be made, and where it would go: the visitor's own account when no namespace is named.

        Raises:
            AccessDenied: the visitor may not build, or not publish there.
            Busy: too many questions from one address.
        """
        self._limits.read(visitor)
        self._require(visitor, namespace)
        return self.mill.reader(visitor).plan(text, asked, namespace, private=private)

    def submit(self, visitor: Visitor, plan: Plan) -> tuple[Build, ...]:
        """Queue the plan's builds.

        Raises:
            AccessDenied: the visitor may not build, or the plan is not theirs.
            Busy: the queue is full, or it is too much for one person.
        """
        self._require(visitor, plan.namespace)
        if not visitor.operator and any(not visitor.owns(request) for request in plan.builds):
            raise AccessDenied("This plan was made for somebody else.", "Ask for it again.")
        with self._one_at_a_time:
            self._limit(visitor, plan.builds)
            return self.mill.submit(plan, person=True, by=visitor)

    def builds(self, visitor: Visitor, limit: int = 50) -> tuple[Build, ...]:
        """The newest builds that the visitor may see, newest first."""
        return tuple(build for build in self.mill.builds(limit) if visitor.sees(build.request))

    def build(self, visitor: Visitor, id_prefix: str) -> Build:
        """The one build whose id starts so.

        Raises:
            UsageError: there is none that the visitor may see.
        """
        return self.mill.build(id_prefix, visitor.sees)

    def log(self, visitor: Visitor, build_id: str, after: int = 0) -> tuple[LogLine, ...]:
        """A build's log lines numbered above `after`. Raises as `build`."""
        return self.mill.log(self.build(visitor, build_id).id, after)

    def steps(self, visitor: Visitor, build_id: str) -> tuple[str, ...]:
        """The steps that a build has finished. Raises as `build`."""
        return self.mill.steps(self.build(visitor, build_id).id)

    def pull(self, visitor: Visitor, repo: str) -> tuple[Snippet, ...]:
        """How to get and run what stands in a repo that the visitor may see, as its card says. Raises as `check`."""
        self._limits.read(visitor)
        return self.mill.reader(visitor).pull(repo)

    def may_end(self, visitor: Visitor, build: Build) -> bool:
        """Whether the visitor may cancel or retry this build."""
        return visitor.operator or visitor.owns(build.request)

    def cancel(self, visitor: Visitor, id_prefix: str) -> Build:
        """Stop a build for good.

        Raises:
            AccessDenied: it is not the visitor's.
            UsageError: there is none that the visitor may see.
        """
        return self.mill.cancel(self._theirs(visitor, id_prefix).id)

    def retry(self, visitor: Visitor, id_prefix: str) -> Build:
        """Begin a failed or cancelled build again. Raises as `cancel`, and as `submit`."""
        build = self._theirs(visitor, id_prefix)
        self._require(visitor, build.request.namespace)
        with self._one_at_a_time:
            self._limit(visitor, (build.request,))
            return self.mill.retry(build.id, by=visitor)

    def welcome(self, visitor: Visitor) -> None:
        """Somebody has signed in: builds of theirs that waited for that go on."""
        if visitor.token is not None and self._account(visitor):
            self.mill.lend(visitor)

    def _theirs(self, visitor: Visitor, id_prefix: str) -> Build:
        build = self.build(visitor, id_prefix)
        if not self.may_end(visitor, build):
            raise AccessDenied(
                "Only whoever asked for a build may stop it or begin it again.", "Sign in with the account that asked."
            )
        return build

    def _limit(self, visitor: Visitor, asked: Sequence[BuildRequest]) -> None:
        if not visitor.operator:
            unfinished = self.mill.unfinished()
            new = [request for request in asked if not any(request.covered_by(other.request) for other in unfinished)]
            self._limits.build(visitor, len(new), unfinished, self.mill.builds(RECENT))

    def _account(self, visitor: Visitor) -> Account | None:
        """Whose token a visitor brought, as the Hub says now; None if it is not theirs."""
        if visitor.token is None or visitor.name is None:
            return None
        account = accounts(self.settings.endpoint).of(visitor.token)
        return account if account is not None and account.name == visitor.name else None

    def _require(self, visitor: Visitor, namespace: str | None) -> None:
        if visitor.operator:
            return
        if not self.may_build(visitor):
            raise AccessDenied(
                "Only who has signed in may convert here.",
                "Sign in, or run phimill yourself with your own token: phimill convert OWNER/NAME --to YOUR-NAME.",
            )
        account = self._account(visitor)
        if account is None:
            raise AccessDenied("The Hub does not know your token any more.", "Sign in again.")
        if not account.writable:
            raise AccessDenied("Your token may only read.", "Sign in again, or use a token that may write.")
        if (namespace or account.name) not in account.writable:
            raise AccessDenied(
                f"You may not publish to {namespace}.", f"You may publish to: {', '.join(account.writable)}."
            )
