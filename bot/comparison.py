"""The published variants of one release side by side: what each costs in bytes, and how far it is from the source."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bot import plot
from bot.models import Frozen
from bot.publication import Publication


class Compared(Frozen):
    """One variant where it stands. `kl` is the mean KL in nats; `perplexity_ratio` is variant over source."""

    recipe: str
    backend: str
    title: str
    repo: str
    tag: str
    size: int
    kl: float
    top1: float
    perplexity_ratio: float

    @property
    def label(self) -> str:
        """Its name in a picture, as on the card's."""
        return plot.short(self.title)


def rows(state: Publication) -> tuple[Compared, ...]:
    """The variants of one repo. A receipt is untrusted: figures that make no sense are left out."""
    return tuple(
        Compared(
            recipe=v.recipe,
            backend=state.backend,
            title=v.title,
            repo=state.repo,
            tag=v.version,
            size=v.bytes,
            kl=v.fidelity.kl_mean,
            top1=v.fidelity.top1,
            perplexity_ratio=v.fidelity.perplexity_ratio,
        )
        for v in state.variants
        if v.bytes > 0 and math.isfinite(v.fidelity.kl_mean) and v.fidelity.kl_mean >= 0
    )


def front(compared: Iterable[Compared]) -> list[Compared]:
    """Those that no other beats: everything smaller is farther from the source."""
    return plot.pareto(compared)
