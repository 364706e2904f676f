"""Whether what stands in a repo of ours agrees with itself: files and statement with the receipt. Pure.

The receipt says what was made from what. The statement follows from it, so it is made again from it and compared with
the one that is there; `card_check.py` does the same with the card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bot import catalog
from bot import receipt as receipts
from bot.models import ArtifactFile, Frozen
from bot.publication import CARD_PATH, PLOT_PATH, RECEIPT_PATH, SIGNATURE_PATH, STATEMENT_PATH, Publication
from bot.recipes import Backend
from bot.templates import filters

# What git and the Hub keep in a repo for themselves.
HOUSEKEEPING = frozenset({".gitattributes", ".gitignore"})
BESIDE = (CARD_PATH, PLOT_PATH, RECEIPT_PATH)
LONGEST = 160  # characters of a value that a finding shows
MOST = 20  # differences of one document that are listed
DEEPEST = 50  # tables and lists inside one another; no statement of ours comes near it

Subjects = Mapping[str, str]


class Finding(Frozen):
    """One thing that is not as it should be. A warning says what could not be checked, or is no fault of the repo."""

    file: str
    what: str
    expected: str = ""
    found: str = ""
    warning: bool = False

    def __str__(self) -> str:
        """One line."""
        sides = [f"{name} {value}" for name, value in (("expected", self.expected), ("found", self.found)) if value]
        return filters.one_line(": ".join(filter(None, (self.file, self.what, ", ".join(sides)))))


def differs(file: str, what: str, expected: object, found: object, *, warning: bool = False) -> Finding:
    """A finding with both values, shortened to what fits on a line."""
    return Finding(file=file, what=what, expected=_short(expected), found=_short(found), warning=warning)


def of_files(publication: Publication, subjects: Subjects, held: Mapping[str, ArtifactFile]) -> Iterator[Finding]:
    """What is missing, listed nowhere, or has other bytes than the receipt and the statement say."""
    made = expected(publication)
    unlisted = {STATEMENT_PATH, *([SIGNATURE_PATH] if publication.signer else [])}
    for path in sorted({*made, *BESIDE, *unlisted} - held.keys()):
        yield Finding(file=path, what="it is missing")
    for path, file in sorted(held.items()):
        if path in unlisted or path in HOUSEKEEPING:
            continue
        if path not in made and path not in subjects and path not in BESIDE:
            yield Finding(file=path, what=f"neither {RECEIPT_PATH} nor {STATEMENT_PATH} lists it")
        wanted = made.get(path)
        if wanted is not None and wanted.size != file.size:
            yield differs(path, "size in bytes", wanted.size, file.size)
        if wanted is not None and wanted.sha256 and wanted.sha256 != file.sha256:
            yield differs(path, f"SHA-256 in {RECEIPT_PATH}", wanted.sha256, file.sha256)
        elif path in BESIDE and path in subjects and subjects[path] != file.sha256:
            yield differs(path, f"SHA-256 in {STATEMENT_PATH}", subjects[path], file.sha256)


class Expected(Frozen):
    """A file as the receipt has it. `sha256` is empty where variants of one version disagree about a shared file."""

    size: int
    sha256: str


def expected(publication: Publication) -> dict[str, Expected]:
    """Every file of every variant that stands, by path."""
    sizes = {(f.path, f.sha256): f.size for v in publication.variants for f in (*v.files, *v.extras)}
    any_size = {f.path: f.size for v in publication.variants for f in (*v.files, *v.extras)}
    return {
        path: Expected(size=sizes.get((path, sha256), any_size[path]), sha256=sha256)
        for path, sha256 in receipts.standing(publication).items()
    }


def of_receipt(publication: Publication, repo: str, revision: str) -> Iterator[Finding]:
    """Where the receipt contradicts itself, or where it lies."""
    if publication.repo != repo:
        yield differs(RECEIPT_PATH, "the repo it was written for", repo, publication.repo, warning=True)
    if receipts.version_order(revision)[0] >= 0 and publication.version != revision:
        yield differs(RECEIPT_PATH, "version", revision, publication.version)
    try:
        receipts.receipt(publication)
    except (ValueError, RecursionError):
        yield Finding(file=RECEIPT_PATH, what="it has a figure that is not finite")
    if not publication.complete:
        what = f"{publication.version} is still being built: variants may be missing"
        yield Finding(file=RECEIPT_PATH, what=what, warning=True)
    if catalog.source_digests(publication.source_files) != publication.digests:
        yield Finding(file=RECEIPT_PATH, what="its digests are not those of the source files that it lists")
    if publication.complete:
        for variant in publication.variants:
            if variant.made_from != publication.digests.made_from:
                what = f"{variant.recipe} was made from other source files than those that it lists"
                yield Finding(file=RECEIPT_PATH, what=what)


def read_statement(data: bytes) -> dict[str, Any] | None:
    """The statement as data; None when it is none, or nested deeper than any of ours."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and _nests_at_most(said, DEEPEST) else None


def _nests_at_most(value: Any, depth: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_nests_at_most(part, depth - 1) for part in parts)


def subjects_of(said: Mapping[str, Any] | None) -> Subjects:
    """The SHA-256 of each file that a statement names, by path. What has another form is left out."""
    found: dict[str, str] = {}
    listed = (said or {}).get("subject")
    for item in listed if isinstance(listed, list) else ():
        name, digest = (item.get("name"), item.get("digest")) if isinstance(item, dict) else (None, None)
        sha256 = digest.get("sha256") if isinstance(digest, dict) else None
        if isinstance(name, str) and isinstance(sha256, str):
            found[name] = sha256
    return found


def of_statement(publication: Publication, backend: Backend | None, data: bytes) -> Iterator[Finding]:
    """Where the statement is not the one that follows from the receipt.

    The hashes of what lies beside the weights are taken as it has them: `of_files` holds them against the bytes.
    """
    said = read_statement(data)
    if said is None:
        yield Finding(file=STATEMENT_PATH, what="it is not a JSON object that phimill could have written")
        return
    subjects = subjects_of(said)
    beside = [ArtifactFile.model_construct(path=p, size=0, sha256=subjects.get(p, "missing")) for p in BESIDE]
    claimed, options = options_of(said), {}
    known = {recipe.digest: recipe.options for recipe in backend.recipes} if backend else {}
    for variant in publication.variants:
        # A recipe that has changed since cannot say which options it had.
        options[variant.recipe] = known.get(variant.recipe_digest, claimed.get(variant.recipe, {}))
    try:
        wanted = receipts.statement(publication, beside, options=options)
    except ValueError as error:
        yield Finding(file=RECEIPT_PATH, what=f"no statement follows from it: {error}")
        return
    if wanted != data:
        yield from listed_differences(STATEMENT_PATH, json.loads(wanted), said)


def options_of(said: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The options of each recipe that a statement names, by recipe."""
    found: Any = said
    for key in ("predicate", "buildDefinition", "externalParameters", "recipes"):
        found = found.get(key) if isinstance(found, dict) else None
    entries = found.items() if isinstance(found, dict) else ()
    given = {name: entry.get("options") for name, entry in entries if isinstance(entry, dict)}
    return {name: options for name, options in given.items() if isinstance(options, dict)}


def listed_differences(file: str, wanted: Any, said: Any) -> Iterator[Finding]:
    """The first differences between two JSON documents, by their places; one at least."""
    found = [differs(file, at or "it", a, b) for at, a, b in differences(wanted, said)]
    yield from found[:MOST] or [Finding(file=file, what="it says the same in other bytes than phimill writes")]
    if len(found) > MOST:
        yield Finding(file=file, what=f"{len(found) - MOST} more differences")


def differences(wanted: Any, said: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the place, and both values. Lists of named things are compared by their names."""
    wanted, said = _named(wanted), _named(said)
    if isinstance(wanted, dict) and isinstance(said, dict):
        for key in sorted({*wanted, *said}):
            place = f"{at}.{key}" if at else str(key)
            yield from differences(wanted.get(key, "nothing"), said.get(key, "nothing"), place)
    elif type(wanted) is not type(said) or wanted != said:
        yield at, wanted, said


def _named(value: Any) -> Any:
    """A list of things with different names as a table by name; anything else as it is."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in value)
    ):
        table = {item["name"]: item for item in value}
        return table if len(table) == len(value) else value
    return value


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return filters.shorten(filters.one_line(text) or "nothing", LONGEST)
