"""The clock. It only ever says "reconcile now": what to do is found out by looking at the Hub.

APScheduler keeps the time. A round that is missed because the machine slept, or because the last one still runs, is
made up for once (coalesce, one instance): whatever happened meanwhile is seen by the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler

from bot.errors import PhimillError

log = logging.getLogger(__name__)


@contextmanager
def ticking(look: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call `look` now and every `seconds` while inside. What it can explain is logged, and tried again next time."""

    def round_() -> None:
        try:
            look()
        except PhimillError as error:
            log.warning("This round was skipped: %s", error)

    clock = BackgroundScheduler(timezone=UTC)
    clock.add_job(
        round_,
        "interval",
        seconds=seconds,
        id="reconcile",
        replace_existing=True,
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
        next_run_time=datetime.now(UTC),
    )
    clock.start()
    try:
        yield
    finally:
        clock.shutdown(wait=True)
