"""The dashboard's boards: what the operator may see, and what strangers may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.ui.board import Board
from bot.ui.latest import Latest
from bot.visitor import OPERATOR, STRANGER

if TYPE_CHECKING:
    from bot.desk import Desk
    from bot.visitor import Visitor

FRESH_SECONDS = 30.0


class Boards:
    """One board per kind of visitor, each asked for once for all of them."""

    def __init__(self, desk: Desk) -> None:
        self.public = Latest(lambda: Board(desk.releases(STRANGER)), FRESH_SECONDS)
        self._operators = Latest(lambda: Board(desk.releases(OPERATOR)), FRESH_SECONDS)

    def of(self, who: Visitor) -> Latest[Board]:
        """The board that this visitor may see."""
        return self._operators if who.operator else self.public
