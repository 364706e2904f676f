"""Whether this mill can do its work now: what `GET /readyz` says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from huggingface_hub.utils._http import get_session
from sqlalchemy.exc import SQLAlchemyError

from bot.errors import PhimillError
from bot.hub_errors import translated

if TYPE_CHECKING:
    from bot.mill import Mill

PATIENCE = 5.0  # seconds that the Hub has
GOOD_FOR = 30.0  # seconds that an answer of the Hub holds: many may ask us, and we do not pass it on


class Readiness:
    """Looks at the database, the workers and the Hub."""

    def __init__(self, mill: Mill, clock: Callable[[], float] = time.monotonic) -> None:
        self._mill = mill
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._asked: float | None = None
        self._said: str | None = None

    def problems(self) -> list[str]:
        """Why the mill is not ready, one sentence each; nothing when it is."""
        return list(self._found())

    def _found(self) -> Iterator[str]:
        try:
            if not self._mill.someone_works():
                yield "Nobody takes builds."
        except (SQLAlchemyError, OSError):
            yield "The database does not answer."
        if (said := self._hub()) is not None:
            yield said

    def _hub(self) -> str | None:
        with self._one_at_a_time:
            if self._asked is None or self._clock() - self._asked > GOOD_FOR:
                self._said, self._asked = self._ask_hub(), self._clock()
            return self._said

    def _ask_hub(self) -> str | None:
        try:
            with translated("its models"):
                # Any answer but a server's error is one: the Hub is there.
                answer = get_session().get(f"{self._mill.settings.endpoint}/api/models?limit=1", timeout=PATIENCE)
                return f"The Hub answers {answer.status_code}." if answer.status_code >= 500 else None
        except PhimillError:
            return "The Hub does not answer."
