"""The clock. It only ever says "reconcile now": what to do is found out by looking at the Hub.

APScheduler keeps the time. A round that is missed because the machine slept, or because the last one still runs,
is made up for once (coalesce, one instance): whatever happened meanwhile is seen by the next look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler

from bot.errors import PhimillError
from bot.logs import get_logger

log = get_logger(__name__)

JOB = "reconcile"


@contextmanager
def ticking(look: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call `look` now and every `seconds` while inside. What it can explain is logged, and tried again next time."""

    def round_() -> None:
        try:
            look()
        except PhimillError as error:
            log.warning("This round was skipped.", error=str(error))

    clock = BackgroundScheduler(timezone=UTC)
    clock.add_job(
        round_,
        "interval",
        seconds=seconds,
        id=JOB,
        replace_existing=True,
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
        next_run_time=datetime.now(UTC),
    )
    over = threading.Event()
    guard = threading.Thread(target=_mind_the_wall_clock, args=(clock, seconds, over), daemon=True)
    clock.start()
    guard.start()
    try:
        yield
    finally:
        over.set()
        guard.join()
        clock.shutdown(wait=True)


def _mind_the_wall_clock(clock: BackgroundScheduler, seconds: float, over: threading.Event) -> None:
    """Bring the next round forward when the wall clock was put back, for APScheduler would wait until it catches up.

    Waits by the monotonic clock, which nobody can set.
    """
    while not over.wait(seconds):
        job = clock.get_job(JOB)
        if job is not None and job.next_run_time > datetime.now(UTC) + timedelta(seconds=seconds):
            log.warning("The clock went backwards; looking now.")
            job.modify(next_run_time=datetime.now(UTC))
