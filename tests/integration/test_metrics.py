"""What /metrics and /readyz tell of a real engine and a real Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_worker import request, wait_until
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from bot import api, metrics, recipes
from bot.admission import Admission
from bot.builds import BuildRequest, Failure, VariantResult
from bot.errors import NotEnoughRoom
from bot.localhub import RunningHub
from bot.mill import Mill
from bot.settings import Settings
from bot.steps import Outcome, Steps

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    with RunningHub(tmp_path / "hub") as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        yield running


@pytest.fixture
def mill(tmp_path: Path, hub: RunningHub) -> Iterator[Mill]:
    mill = Mill(Settings(home=tmp_path / "home", namespace="phimill"))
    yield mill
    mill.close()


@pytest.fixture
def client(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(api, "_with_page", lambda app, mill: app)
    with TestClient(api.create_app(mill), base_url="http://127.0.0.1") as client:
        yield client


def scraped(client: TestClient) -> Samples:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def grown(client: TestClient, action: Callable[[], object]) -> Callable[..., float]:
    """By how much each sample grew while `action` ran: counters are of the process, and so of all tests."""
    before = scraped(client)
    action()
    after = scraped(client)

    def of(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    return of


def built(mill: Mill, outcome: Callable[[Steps], Outcome]) -> None:
    mill.engine.submit(request(), person=True)
    with mill.engine.working(lambda _asked, steps: outcome(steps)):
        wait_until(lambda: mill.engine.unfinished() == 0)


def steps_then(results: tuple[VariantResult, ...] = (), failure: Failure | None = None) -> Callable[[Steps], Outcome]:
    def run(steps: Steps) -> Outcome:
        for name in ("may publish", "convert gguf/int4", "convert gguf/int8", "finish phimill/secret-repo"):
            steps.run(name, lambda: "done")
        return Outcome(results=results, failure=failure)

    return run


def test_a_build_leaves_the_time_of_its_stages(mill: Mill, client: TestClient) -> None:
    of = grown(client, lambda: built(mill, steps_then()))
    assert of("phimill_stage_seconds_count", stage="convert", backend="gguf") == 2
    assert of("phimill_stage_seconds_count", stage="may_publish", backend="gguf") == 1
    assert of("phimill_stage_seconds_bucket", stage="convert", backend="gguf", le="+Inf") == 2
    assert of("phimill_build_seconds_count", backend="gguf", outcome="done") == 1
    assert of("phimill_build_seconds_count", backend="gguf", outcome="failed") == 0


def test_a_step_that_is_interrupted_or_only_read_again_leaves_no_time() -> None:
    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metrics.timed("gguf", lambda _name, action: action())("broken-off x", interrupted)
    assert metrics.timed("gguf", lambda _name, _action: {"value": 1})("stored x", interrupted) == {"value": 1}
    for stage in ("broken-off", "stored"):
        labels = {"stage": stage, "backend": "gguf"}
        assert not metrics.REGISTRY.get_sample_value("phimill_stage_seconds_count", labels)


def test_failures_are_counted_by_kind(mill: Mill, client: TestClient) -> None:
    variant = VariantResult(recipe="gguf/int4", status="gate_failed")
    failure = Failure.of(NotEnoughRoom("The disk is full.", "Free some space."))
    of = grown(client, lambda: built(mill, steps_then((variant,), failure)))
    assert of("phimill_failures_total", backend="gguf", code="not_enough_room") == 1
    assert of("phimill_failures_total", backend="gguf", code="variant_gate_failed") == 1
    assert of("phimill_build_seconds_count", backend="gguf", outcome="failed") == 1


def test_the_queue_is_counted_by_backend_and_an_empty_one_is_zero(mill: Mill, client: TestClient) -> None:
    mill.engine.submit(request(1), person=True)
    mill.engine.submit(request(2), person=False)
    found = scraped(client)
    waiting = {dict(labels)["backend"]: value for (name, labels), value in found.items() if name.endswith("waiting")}
    assert waiting == {**dict.fromkeys(recipes.backends(), 0), "gguf": 2}
    running: list[float] = []

    def run(_asked: BuildRequest, _steps: Steps) -> Outcome:
        running.append(scraped(client)["phimill_builds_running", frozenset({("backend", "gguf")})])
        return Outcome()

    with mill.engine.working(run):
        wait_until(lambda: mill.engine.unfinished() == 0)
    assert running == [1, 1]
    mill.pause()
    assert scraped(client)["phimill_paused", frozenset()] == 1


def test_no_name_of_a_repo_or_an_account_is_told(mill: Mill, client: TestClient) -> None:
    built(mill, steps_then())
    text = client.get("/metrics").text
    assert "convert" in text
    assert not [name for name in ("secret-repo", "Phi-1", "microsoft", "int4", "miller") if name in text]


def test_calls_of_the_hub_are_counted_by_how_they_ended(hub: RunningHub, mill: Mill, client: TestClient) -> None:
    hf = HfApi(endpoint=hub.url, token=hub.token("miller"))

    def ask() -> None:
        hf.whoami()
        with pytest.raises(HfHubHTTPError):
            hf.model_info("phimill/none")

    hf.whoami()  # a client's first call asks something beside
    of = grown(client, ask)
    assert of("phimill_hub_requests_total", method="GET") == 2
    assert of("phimill_hub_answers_total", method="GET", status="2xx") == 1
    assert of("phimill_hub_answers_total", method="GET", status="4xx") == 1


def test_what_the_hub_says_of_its_limit_is_told(client: TestClient) -> None:
    metrics.hub_answered("GET", 429, "api", 17)
    metrics.hub_answered("BREW", 200, "a name with spaces", 3)
    found = scraped(client)
    limits = {dict(labels)["limit"]: value for (name, labels), value in found.items() if "rate_limit" in name}
    assert limits == {"api": 17}
    assert ("phimill_hub_answers_total", frozenset({("method", "other"), ("status", "2xx")})) in found


def test_memory_that_converters_were_granted_is_told_until_they_end(mill: Mill, client: TestClient) -> None:
    admission = Admission(Settings(memory_budget=1000))
    with admission.admitted(300, lambda: False):
        inside = scraped(client)
    assert inside["phimill_memory_budget_bytes", frozenset()] == 1000
    assert inside["phimill_memory_granted_bytes", frozenset()] == 300
    assert scraped(client)["phimill_memory_granted_bytes", frozenset()] == 0


def test_metrics_go_on_while_the_database_is_away(
    mill: Mill, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mill, "queued", _away)
    names = {name for name, _ in scraped(client)}
    assert "phimill_memory_granted_bytes" in names
    assert "phimill_builds_waiting" not in names


def test_a_mill_that_works_is_ready(mill: Mill, client: TestClient) -> None:
    with mill.engine.working(lambda _asked, _steps: Outcome()):
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "problems": []})


def test_a_mill_that_nobody_works_for_is_not_ready(mill: Mill, client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["Nobody takes builds."])


def test_a_worker_in_another_process_is_enough(mill: Mill, client: TestClient, tmp_path: Path) -> None:
    other = Mill(Settings(home=tmp_path / "home", namespace="phimill"))
    with other.engine.working(lambda _asked, _steps: Outcome()):
        assert client.get("/readyz").status_code == 200
    other.close()


def test_a_hub_that_is_away_and_a_database_that_is_away_are_both_named(
    mill: Mill, hub: RunningHub, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.__exit__(None, None, None)
    monkeypatch.setattr(mill, "someone_works", _away)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["The database does not answer.", "The Hub does not answer."]


def test_many_who_ask_do_not_make_many_calls_of_the_hub(mill: Mill, client: TestClient) -> None:
    of = grown(client, lambda: [client.get("/readyz") for _ in range(20)])
    assert of("phimill_hub_requests_total", method="GET") == 1


def _away(*_: object) -> None:
    raise OperationalError("select", {}, ValueError("gone"))
