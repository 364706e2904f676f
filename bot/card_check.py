"""Whether the model card is the one that follows from the receipt. Pure.

The card is a function of the receipt and of phimill's own data, so it is made again and compared byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import TemplateError

from bot import VERSION, card
from bot.agreement import Finding, differs, listed_differences
from bot.publication import CARD_PATH, RECEIPT_PATH, Publication, PublishedVariant
from bot.recipes import Backend
from bot.templates import filters

BEFORE, AFTER = 40, 80  # characters shown around the first one that differs


def of_card(publication: Publication, backend: Backend | None, data: bytes, endpoint: str) -> Iterator[Finding]:
    """Where the card is not the one that follows from the receipt.

    One that another version of phimill wrote may be worded otherwise: then its figures are compared.
    """
    text = data.decode("utf-8", "replace")
    hub = _leads_to(publication, text) or endpoint
    if hub != endpoint:
        yield differs(CARD_PATH, "its links lead to another Hub", endpoint, hub, warning=True)
    if backend is None:
        what = f"this phimill has no backend {publication.backend!r}, so only its figures are compared"
        yield Finding(file=CARD_PATH, what=what, warning=True)
        yield from of_figures(publication, text)
        return
    try:
        wanted = card.render(publication, backend, hub=hub)
        same = wanted.encode() == data
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, TemplateError) as error:
        yield Finding(file=RECEIPT_PATH, what=f"no card follows from it ({type(error).__name__})")
        return
    if same:
        return
    if publication.phimill == VERSION:
        yield _first_line(wanted, text)
        return
    what = f"phimill {publication.phimill} wrote it, and {VERSION} words it otherwise: only its figures are compared"
    yield Finding(file=CARD_PATH, what=what, warning=True)
    yield from of_figures(publication, text)


def of_figures(publication: Publication, text: str) -> Iterator[Finding]:
    """Where the card's own block, or its table of variants, says something else than the receipt."""
    said, wanted = card.parse(text), publication.summary()
    if said is None:
        yield Finding(file=CARD_PATH, what="its phimill block is missing or cannot be read")
    elif said != wanted:
        yield from listed_differences(CARD_PATH, wanted.model_dump(mode="json"), said.model_dump(mode="json"))
    yield from _of_rows(publication, text)


def _of_rows(publication: Publication, text: str) -> Iterator[Finding]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for variant in publication.variants:
        name = str(filters.code(variant.files[0].path)) if variant.files else ""
        row = next((line for line in rows if name and name in line), None)
        if row is None:
            yield Finding(file=CARD_PATH, what=f"its table has no row for {variant.recipe}")
            continue
        cells = {cell.strip() for cell in row.split("|")}
        for what, figure in _figures(variant).items():
            if figure not in cells:
                yield differs(CARD_PATH, f"{what} of {variant.recipe}", figure, row)


def _figures(variant: PublishedVariant) -> dict[str, str]:
    fidelity = variant.fidelity
    return {
        "size": filters.size(variant.bytes),
        "mean KL": filters.kl(fidelity.kl_mean),
        "p99 KL": filters.kl(fidelity.kl_p99),
        "top-1": f"{100 * fidelity.top1:.2f} %",
        "perplexity ratio": f"{fidelity.perplexity_ratio:.4f}",
    }


def _first_line(wanted: str, text: str) -> Finding:
    """The first line that differs, and its number."""
    ours, theirs = wanted.split("\n"), text.split("\n")
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False), 1):
        if a != b:
            at = next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
            shown = slice(max(0, at - BEFORE), at + AFTER)
            return differs(CARD_PATH, f"line {number}, character {at + 1}", a[shown], b[shown])
    return differs(CARD_PATH, "number of lines", len(ours), len(theirs))


def _leads_to(publication: Publication, text: str) -> str | None:
    """The address of the Hub that a card's first link to the source leads to."""
    found = re.search(rf"\]\((https?://[^\s()<>]{{1,200}})/{re.escape(publication.source)}[)/]", text)
    return found[1] if found else None
