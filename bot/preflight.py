"""The verdict: for each recipe, whether it can be made from a release, and if not, why. Nothing is
downloaded for it but config.json, tokenizer files and the headers of the safetensors files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bot import catalog, problems, problems_gguf, recipes
from bot.costs import estimate, lacking
from bot.errors import SourceCorrupt
from bot.hub import Hub
from bot.models import Recipe, Release, Status, Verdict
from bot.pretokenizer import Probed, probe
from bot.problems import Problem
from bot.recipes import Backend
from bot.safetensors_header import Tensor
from bot.settings import Settings

CONVERTIBLE = (Status.SUPPORTED, Status.CAVEAT)
# From best to worst: a verdict is as bad as the worst thing known.
_ORDER = (Status.SUPPORTED, Status.CAVEAT, Status.KNOWN_BROKEN, Status.UNSUPPORTED)


def verdicts(release: Release, wanted: Sequence[Recipe], hub: Hub, settings: Settings) -> tuple[Verdict, ...]:
    """One verdict for each of `wanted`, in the same order.

    What this machine lacks is said apart (`Verdict.lacks`): another machine may well build it.

    Raises:
        HubError: the release's metadata could not be read.
    """
    look = _Look(release, hub, settings)
    return tuple(look.verdict(recipe) for recipe in wanted)


class _Look:
    """One look at a release. What is read for one recipe serves the others."""

    def __init__(self, release: Release, hub: Hub, settings: Settings) -> None:
        self._release, self._hub, self._settings = release, hub, settings
        self._by_backend: dict[str, tuple[Problem, ...]] = {}

    def verdict(self, recipe: Recipe) -> Verdict:
        backend = recipes.backends()[recipe.backend]
        try:
            found = [*self._of_backend(backend), *self._of_recipe(backend, recipe)]
        except SourceCorrupt as error:
            found = [problems.unsupported(error.message)]
        status = max((p.status for p in found), key=_ORDER.index, default=Status.SUPPORTED)
        if status not in CONVERTIBLE:
            # Who cannot have it does not need to know what to mind when using it.
            found = [p for p in found if p.status not in CONVERTIBLE]
        needs = estimate(self._release, recipe, backend.costs)
        return Verdict(
            recipe=recipe.id,
            status=status,
            reasons=_unique(p.reason for p in found),
            links=_unique(link for p in found for link in p.links),
            needs=needs,
            lacks=lacking(needs, self._settings),
        )

    def _of_backend(self, backend: Backend) -> tuple[Problem, ...]:
        if backend.id not in self._by_backend:
            self._by_backend[backend.id] = tuple(self._look(backend))
        return self._by_backend[backend.id]

    def _look(self, backend: Backend) -> Iterator[Problem]:
        """Everything wrong with the release for this backend."""
        release = self._release
        stand = list(_stand(backend, release))
        yield from stand
        metadata = self._metadata
        yield from problems.of_release(release, metadata.config, metadata.tensors)
        yield from problems.of_templates(metadata.templates)
        hopeless = any(p.status not in CONVERTIBLE for p in stand)
        if backend.pretokenizers is not None and not hopeless:
            known = backend.pretokenizers
            yield from problems_gguf.of_release(
                release,
                metadata.config,
                metadata.tokenizer_config,
                known,
                lambda: self._probe(known.probe_text),
            )

    def _of_recipe(self, backend: Backend, recipe: Recipe) -> Iterator[Problem]:
        yield from problems.of_recipe(self._release, recipe)
        if backend.pretokenizers is not None:  # what makes a backend llama.cpp's
            yield from problems_gguf.of_recipe(self._release, recipe, self._metadata.tensors)

    @cached_property
    def _metadata(self) -> _Metadata:
        where = self._hub, self._release.repo, self._release.sha, self._release.files
        tokenizer_config = catalog.read_json(*where, "tokenizer_config.json")
        return _Metadata(
            config=catalog.read_config(*where),
            tokenizer_config=tokenizer_config,
            tensors=catalog.read_tensors(*where),
            templates=catalog.read_templates(*where, tokenizer_config),
        )

    def _probe(self, text: str) -> Probed:
        return probe(self._release, text, self._hub, self._settings)


@dataclass(frozen=True)
class _Metadata:
    config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    templates: tuple[object, ...]


def _stand(backend: Backend, release: Release) -> Iterator[Problem]:
    """What the backend's own table says about the class and the traits of this release."""
    support = backend.architectures.get(release.architecture)
    if support is None:
        yield problems.unsupported(f"{backend.title} does not know {release.architecture}.")
        return
    for stand in (support, *(s for trait, s in support.when.items() if getattr(release.traits, trait))):
        if stand.status is not Status.SUPPORTED:
            yield Problem(status=stand.status, reason=stand.reason, links=stand.links)


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
