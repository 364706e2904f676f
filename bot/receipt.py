"""The receipt and the provenance statement: what lets anyone rebuild and check what we publish.

Neither holds a time of day, a duration or a build number: the same build gives the same bytes, so that
publishing it again changes nothing and a rebuild can be compared by hash. SLSA's `startedOn`, `finishedOn`
and `invocationId` are optional and left out for that reason; the Hub's own commit says when.

Formats: in-toto Statement v1 (https://in-toto.io/Statement/v1) holding SLSA Provenance v1
(https://slsa.dev/provenance/v1), digest names as in in-toto's DigestSet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from bot.errors import NotOurs
from bot.models import ArtifactFile, SourceFile, canonical_json
from bot.publication import RECEIPT_PATH, SCHEMA, STATEMENT_PATH, Publication, PublishedVariant

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:phimill:convert:1"
MAX_RECEIPT_BYTES = 16 * 1024 * 1024


class NewerReceipt(NotOurs):
    """The receipt was written by a newer phimill than this one."""

    code = "newer_receipt"


def receipt(publication: Publication, host: Mapping[str, Any] | None = None) -> bytes:
    """`phimill.json`: the whole publication, and under `host` facts about the machine that made it.

    Raises:
        ValueError: a figure is not finite. The gate lets none through.
    """
    state = {**publication.model_dump(mode="json"), "host": dict(host or {})}
    return (json.dumps(state, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_receipt(data: bytes) -> Publication:
    """Read a receipt back. Fields that this version does not know are skipped; so is `host`.

    Raises:
        NewerReceipt: its schema is newer, so what it says could mean something else.
        NotOurs: it is not a receipt.
    """
    state = _load(data)
    schema = state.get("schema_version")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerReceipt(
            f"{RECEIPT_PATH} has schema {schema}, and this phimill reads up to {SCHEMA}.", "Upgrade phimill."
        )
    try:
        return Publication.model_validate(state)
    except ValidationError as exc:
        _drop_unknown(state, exc)
    try:
        return Publication.model_validate(state)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unreadable(f"{where}: {first['msg']}") from None


def statement(
    publication: Publication,
    others: Sequence[ArtifactFile],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> bytes:
    """`provenance.intoto.jsonl`: one line saying which files were made from what, with what, by what.

    Args:
        publication: its variants' files and extras are subjects.
        others: what else is published with them (card, plot, receipt); never the statement itself.
        options: the recipes' options by recipe id, where known.

    Raises:
        ValueError: one of `others` claims the path of a variant's file, or is the statement.
    """
    return (
        canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": _subjects(publication, others),
                "predicateType": PREDICATE_TYPE,
                "predicate": {
                    "buildDefinition": _build(publication, options or {}),
                    "runDetails": {
                        "builder": {
                            "id": f"pkg:pypi/phimill@{publication.phimill or 'unknown'}",
                            "version": dict(publication.tools),
                        }
                    },
                },
            }
        )
        + "\n"
    ).encode()


def version_order(version: str) -> tuple[int, int, str]:
    """A key to sort versions by: v1.10 comes after v1.9, and what is no version of ours comes first."""
    match = re.fullmatch(r"v(\d{1,9})\.(\d{1,9})", version)
    return (int(match[1]), int(match[2]), version) if match else (-1, -1, version)


def _subjects(publication: Publication, others: Sequence[ArtifactFile]) -> list[dict[str, Any]]:
    found = standing(publication)
    for file in others:
        if file.path == STATEMENT_PATH:
            raise ValueError("A statement cannot name its own hash.")
        if found.setdefault(file.path, file.sha256) != file.sha256:
            raise ValueError(f"Two different files claim the path {file.path!r}.")
    return [{"name": path, "digest": {"sha256": found[path]}} for path in sorted(found) if found[path]]


def standing(publication: Publication) -> dict[str, str]:
    """The hash of each file of a variant that stands in the repo, by path; "" where that cannot be told.

    Variants share files (the importance matrix). While a version is being built, older variants still name
    the one they were made with, at the path where a newer one now lies.
    """
    found: dict[str, str] = {}
    newest: dict[str, str] = {}
    for variant in sorted(publication.variants, key=lambda v: version_order(v.version)):
        for file in (*variant.files, *variant.extras):
            same_version = newest.get(file.path) == variant.version
            differs = found.get(file.path, file.sha256) != file.sha256
            found[file.path] = "" if same_version and differs else file.sha256
            newest[file.path] = variant.version
    return found


def _build(publication: Publication, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    recipes = {
        v.recipe: {
            "digest": v.recipe_digest,
            "options": dict(options.get(v.recipe, {})),
            "precision": v.precision.value,
            "source_sha": made_at(publication, v),
            "toolchain": v.toolchain,
            "version": v.version,
        }
        for v in publication.variants
    }
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "backend": publication.backend,
            "recipes": recipes,
            "source": publication.source,
            "source_sha": publication.source_sha,
            "version": publication.version,
        },
        "internalParameters": {
            "evaluation_sha256": publication.evaluation_sha256,
            "sandbox": publication.sandbox,
        },
        "resolvedDependencies": list(_dependencies(publication)),
    }


def _dependencies(publication: Publication) -> Iterator[dict[str, Any]]:
    """Every input: each source commit, the newest one's files, the calibration text, each toolchain lock.

    There is more than one commit where a variant of an earlier version still stands beside newer ones.
    """
    commits = {publication.source_sha, *(made_at(publication, v) for v in publication.variants)}
    for sha in sorted(commits, key=lambda sha: (sha != publication.source_sha, sha)):
        uri = f"hf://{quote(publication.source)}@{sha}"
        yield {"name": publication.source, "uri": uri, "digest": {"gitCommit": sha}}
    root = f"hf://{quote(publication.source)}@{publication.source_sha}"
    for file in sorted(publication.source_files, key=lambda f: f.path):
        yield {"name": file.path, "uri": f"{root}/{quote(file.path)}", "digest": _digest(file)}
    if publication.calibration_sha256:
        yield {"name": "calibration text", "digest": {"sha256": publication.calibration_sha256}}
    for lock in sorted({v.toolchain for v in publication.variants}):
        yield {"name": f"{publication.backend} toolchain lock", "digest": {"sha256": lock}}


def made_at(publication: Publication, variant: PublishedVariant) -> str:
    """The source commit of the version a variant was made for."""
    return publication.versions.get(variant.version, publication.source_sha)


def _digest(file: SourceFile) -> dict[str, str]:
    """The Hub gives sha256 (64 digits) for LFS files and git's blob sha1 (40 digits) for the others."""
    return {"sha256" if len(file.digest) == 64 else "gitBlob": file.digest}


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_RECEIPT_BYTES:
        raise _unreadable(f"it is {len(data)} bytes long")
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        raise _unreadable("it is not JSON") from None
    if not isinstance(state, dict):
        raise _unreadable("it is not a JSON object")
    return state


def _drop_unknown(state: dict[str, Any], exc: ValidationError) -> None:
    """Take out, in place, every field the models reported as unknown."""
    for error in exc.errors(include_url=False, include_input=False, include_context=False):
        if error["type"] == "extra_forbidden":
            *path, last = error["loc"]
            parent: Any = state
            for step in path:
                parent = parent[step]
            del parent[last]


def _unreadable(why: str) -> NotOurs:
    return NotOurs(f"{RECEIPT_PATH} cannot be read: {why}.", "Was the repo made by phimill?")
