"""What lies beside the weights of a repo of ours: card, plot, receipt and provenance."""

from __future__ import annotations

from bot import plot, receipt
from bot.card import render
from bot.models import ArtifactFile
from bot.publication import CARD_PATH, PLOT_PATH, RECEIPT_PATH, STATEMENT_PATH, Publication
from bot.recipes import Backend


def documents(backend: Backend, state: Publication, endpoint: str) -> dict[str, bytes]:
    """The files beside the weights, by path. Equal states give equal bytes."""
    card = render(state, backend, hub=endpoint).encode()
    picture = plot.draw(state)
    ours = receipt.receipt(state)
    others = [
        ArtifactFile.of(CARD_PATH, card),
        ArtifactFile.of(PLOT_PATH, picture),
        ArtifactFile.of(RECEIPT_PATH, ours),
    ]
    options = {r.id: r.options for r in backend.recipes}
    return {
        CARD_PATH: card,
        PLOT_PATH: picture,
        RECEIPT_PATH: ours,
        STATEMENT_PATH: receipt.statement(state, others, options=options),
    }
