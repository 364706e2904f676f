"""What `GET /metrics` tells: counted here as it happens, in one registry of this process, or read from the database
when somebody asks.

Labels come from short lists of our own: backends, stages, error codes, HTTP methods. Never a repo, an account or an
address: anybody may read this page.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from bot import recipes
from bot.builds import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.mill import Mill
    from bot.steps import Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a cache hit to a large model on two cores, in seconds.
BUCKETS = (0.1, 1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 21600)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
_PLAIN = re.compile("[a-z_]{1,40}")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second sample per counter, which nothing of ours reads
REGISTRY = CollectorRegistry()
STAGE_SECONDS = Histogram(
    "phimill_stage_seconds",
    "How long stages of builds took, of those that ended.",
    ("stage", "backend"),
    buckets=BUCKETS,
    registry=REGISTRY,
)
BUILD_SECONDS = Histogram(
    "phimill_build_seconds",
    "How long builds took, from their last start to their end.",
    ("backend", "outcome"),
    buckets=BUCKETS,
    registry=REGISTRY,
)
FAILURES = Counter(
    "phimill_failures", "Builds and variants that failed, by what went wrong.", ("backend", "code"), registry=REGISTRY
)
HUB_REQUESTS = Counter("phimill_hub_requests", "Requests sent to the Hub.", ("method",), registry=REGISTRY)
HUB_ANSWERS = Counter(
    "phimill_hub_answers", "Answers of the Hub, by their class: 2xx to 5xx.", ("method", "status"), registry=REGISTRY
)
HUB_REMAINING = Gauge(
    "phimill_hub_rate_limit_remaining", "Requests left in the Hub's window, if it says.", ("limit",), registry=REGISTRY
)
MEMORY_BUDGET = Gauge("phimill_memory_budget_bytes", "What all converters together may hold.", registry=REGISTRY)
MEMORY_GRANTED = Gauge(
    "phimill_memory_granted_bytes", "What the converters that run now are expected to hold.", registry=REGISTRY
)

Once = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]


def exposition(mill: Mill) -> bytes:
    """All metrics, in the text format of Prometheus. Without the queue while the database does not answer."""
    try:
        queue = generate_latest(_asked(mill))
    except SQLAlchemyError:
        queue = b""
    return generate_latest(REGISTRY) + queue


def timed(backend: str, once: Once) -> Once:
    """`once`, with the time of each step that is done now, and not of those whose result is only read again."""

    def run(name: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        def measured() -> dict[str, Any]:
            began = time.monotonic()
            kept = action()  # an interruption leaves here: its step has not ended
            STAGE_SECONDS.labels(stage_of(name), backend).observe(time.monotonic() - began)
            return kept

        return once(name, measured)

    return run


def stage_of(step: str) -> str:
    """The stage that a step belongs to: its name without what it is about."""
    return "may_publish" if step == "may publish" else step.split(" ")[0]


@contextmanager
def building(backend: str) -> Iterator[Callable[[Outcome], Outcome]]:
    """A build runs inside. What this yields takes its outcome, and hands it back."""
    began = time.monotonic()

    def ended(outcome: Outcome) -> Outcome:
        failed = outcome.failure is not None
        BUILD_SECONDS.labels(backend, "failed" if failed else "done").observe(time.monotonic() - began)
        for result in outcome.results:
            if result.status in ("failed", "gate_failed"):
                FAILURES.labels(backend, f"variant_{result.status}").inc()
        if outcome.failure is not None:
            FAILURES.labels(backend, outcome.failure.code if _PLAIN.fullmatch(outcome.failure.code) else "error").inc()
        return outcome

    try:
        yield ended
    except Exception:
        FAILURES.labels(backend, "error").inc()
        raise


def asked_hub(method: str) -> None:
    """A request goes to the Hub."""
    HUB_REQUESTS.labels(_method(method)).inc()


def hub_answered(method: str, status: int, limit: str | None, remaining: int) -> None:
    """The Hub answered, and perhaps said how many requests are left of one of its limits."""
    HUB_ANSWERS.labels(_method(method), f"{status // 100}xx").inc()
    if limit is not None and _PLAIN.fullmatch(limit):
        HUB_REMAINING.labels(limit).set(remaining)


def _method(method: str) -> str:
    return method if method in METHODS else "other"


def _asked(mill: Mill) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Queue(mill))
    return registry


class _Queue(Collector):
    """The queue as it stands in the database, so that every worker's page tells the same."""

    def __init__(self, mill: Mill) -> None:
        self._mill = mill

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = self._mill.queued()
        backends = sorted({backend.id for backend in recipes.enabled(self._mill.settings)} | {b for b, _ in counts})
        yield _by_backend("phimill_builds_waiting", "Builds in the queue.", backends, counts, Phase.WAITING)
        yield _by_backend("phimill_builds_running", "Builds under way.", backends, counts, Phase.RUNNING)
        yield GaugeMetricFamily("phimill_paused", "1 while no build begins another step.", int(self._mill.paused))


def _by_backend(
    name: str, says: str, backends: list[str], counts: Mapping[tuple[str, Phase], int], phase: Phase
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, says, labels=["backend"])
    for backend in backends:
        family.add_metric([backend], counts.get((backend, phase), 0))
    return family
