"""The dashboard's table, arranged once so that it can be searched, filtered and paged at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from bot.models import Precision
from bot.recipes import all_recipes
from bot.releases import ReleaseRow

T = TypeVar("T")

PER_PAGE = 10  # releases
KEPT = 256  # answers
SORTS = ("newest", "name", "trouble")
# What somebody should look at first, in the order "trouble".
_TROUBLE = {"failed": 4, "stale": 3, "building": 2, "waiting": 1}


@dataclass(frozen=True)
class Query:
    """What a visitor wants to see; an empty word asks for nothing. `page` counts from one."""

    text: str = ""
    backend: str = ""
    precision: str = ""
    state: str = ""
    sort: str = SORTS[0]
    page: int = 1


class Shown(NamedTuple):
    """One page: rows by release, which page it is, and how many releases, pages and rows were found by state."""

    releases: tuple[tuple[ReleaseRow, ...], ...]
    page: int
    pages: int
    found: int
    states: dict[str, int]


class Board:
    """The rows of one look at the Hub. Answers are kept: many visitors ask for the same."""

    def __init__(self, rows: Sequence[ReleaseRow]) -> None:
        self.rows = tuple(rows)
        self._releases = [tuple(own) for _, own in groupby(rows, key=lambda row: row.repo)]
        self._precisions = {recipe.id: recipe.precision.value for recipe in all_recipes()}
        self.backends = sorted({row.recipe.split("/")[0] for row in rows})
        self.names = [own[0].repo for own in self._releases]
        self._kept: dict[Hashable, Any] = {}

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` made for this key before, or makes now. Some of it is kept; a new board begins with nothing."""
        if key not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = make()
        made: T = self._kept[key]
        return made

    def page(self, query: Query) -> Shown:
        """The page that was asked for, or the nearest there is."""
        found, states = self.remember(replace(query, page=0), lambda: self._find(query))
        pages = max(1, -(-len(found) // PER_PAGE))
        page = min(max(query.page, 1), pages)
        return Shown(found[(page - 1) * PER_PAGE : page * PER_PAGE], page, pages, len(found), states)

    def _find(self, query: Query) -> tuple[tuple[tuple[ReleaseRow, ...], ...], dict[str, int]]:
        words = query.text.lower().split()
        named = [own for own in self._releases if all(word in own[0].repo.lower() for word in words)]
        if query.backend or query.precision or query.state:
            kept = (tuple(row for row in own if self._wanted(row, query)) for own in named)
            found = [own for own in kept if own]
        else:
            found = named
        if query.sort == "name":
            found.sort(key=lambda own: own[0].repo.split("/")[-1].lower())
        elif query.sort == "trouble":
            found.sort(key=lambda own: -max(_TROUBLE.get(row.state, 0) for row in own))
        return tuple(found), dict(Counter(row.state for own in found for row in own))

    def _wanted(self, row: ReleaseRow, query: Query) -> bool:
        precision = self._precisions.get(row.recipe, Precision.OTHER.value)
        return (
            query.state in ("", row.state)
            and query.backend in ("", row.recipe.split("/")[0])
            and query.precision in ("", precision)
        )
