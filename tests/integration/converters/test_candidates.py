"""What `phimill tune` may try is real: each backend's candidates are made, load, and are near their source."""

from __future__ import annotations

from pathlib import Path

import pytest
from conv_mill import Mill

from bot import candidates, recipes
from bot.measures import Fidelity
from bot.models import Recipe, Traits

pytestmark = pytest.mark.backend

LONGROPE = Traits(longrope=True)
CANDIDATES = [
    candidate
    for backend in recipes.backends()
    if backend != "gguf"  # its own are in the test of a whole tuning
    for candidate in candidates.extra(backend)
    if all(bool(getattr(LONGROPE, name)) is wanted for name, wanted in candidate.only_when.items())
]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.id)
def test_a_candidate_is_made_and_is_near_its_source(mill: Mill, reference: Path, candidate: Recipe) -> None:
    folder = mill.work / "candidates" / candidate.backend
    recipe = candidate.model_dump(include={"id", "file", "options"})
    out = folder / candidate.id.rpartition("/")[2]
    answer = mill.ask(candidate.backend, mill.request_of(folder, recipe, out=str(out)))
    assert answer.code == 0, answer.last
    values = Fidelity(**mill.measure(out / answer.last["files"][0], reference, candidate.backend))
    assert values.finite
    assert values.tokenizer_agrees
    assert 0 < values.kl_mean < 0.01


def test_every_backend_has_something_to_try() -> None:
    assert {backend for backend in recipes.backends() if candidates.extra(backend)} == set(recipes.backends())
