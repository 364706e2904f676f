"""Finding a release by a few letters of its name: the watched organisations' Phi releases first."""

from __future__ import annotations

from bot import catalog
from bot.architectures import ARCHITECTURES
from bot.hub import Hub
from bot.kept import Kept
from bot.models import Frozen

MOST = 8
LONGEST = 100  # characters of a search
KEPT, KEPT_SECONDS = 256, 300.0


class Found(Frozen):
    """A repo that a search found. `release`: one of the watched organisations' own Phi releases."""

    repo: str
    release: bool


class Search:
    """Searches one Hub, as one account sees it. Answers are kept for five minutes: people type letter by letter."""

    def __init__(self, hub: Hub, watch: tuple[str, ...]) -> None:
        self._hub = hub
        self._watch = watch
        self._kept: Kept[tuple[str, ...]] = Kept(KEPT_SECONDS, KEPT)

    def __call__(self, text: str) -> tuple[Found, ...]:
        """At most eight repos whose names hold every word of `text`; with no text the newest releases.

        Raises:
            HubUnreachable, AccessDenied
        """
        words = text[:LONGEST].lower().split()
        own = [repo for repo in self._remembered("") if all(word in repo.lower() for word in words)]
        others = self._remembered(" ".join(words)) if words and len(own) < MOST else ()
        found = [Found(repo=repo, release=True) for repo in own]
        found += [Found(repo=repo, release=False) for repo in others if repo not in own]
        return tuple(found[:MOST])

    def _remembered(self, words: str) -> tuple[str, ...]:
        return self._kept.get(words, lambda: self._asked(words))

    def _asked(self, words: str) -> tuple[str, ...]:
        """The releases, for no words; otherwise the Phis among what the Hub finds."""
        if not words:
            return tuple(candidate.repo for candidate in catalog.releases(self._hub, self._watch))
        return tuple(
            one.repo for one in self._hub.search(words) if not ARCHITECTURES.keys().isdisjoint(one.architectures)
        )
