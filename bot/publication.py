"""What stands in one of our repos: the state that the card, the receipt and the planner share.

The full state is the receipt, `phimill.json`. The card's `phimill:` block is its summary: enough for the planner to
see from one listing of our repos what exists, so that our own database can be thrown away. Nothing in here is a time
of day or a duration: the same build gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bot.measures import Fidelity
from bot.models import ArtifactFile, Frozen, Precision, Sha, Sha256, SourceFile, Traits, digest

SCHEMA = 1
RECEIPT_PATH = "phimill.json"
STATEMENT_PATH = "provenance.intoto.jsonl"
CARD_PATH = "README.md"
PLOT_PATH = "fidelity.png"
SIGNATURE_PATH = "model.sig"


class SourceDigests(Frozen):
    """One digest per kind of source file: comparing two of them says what an upstream commit changed."""

    weights: Sha256
    assets: Sha256
    readme: Sha256

    @property
    def made_from(self) -> str:
        """Identifies the source bytes that can reach an artifact: everything but the readme."""
        return digest(self.weights, self.assets)


class PublishedVariant(Frozen):
    """One variant as it stands in the repo, with the evidence it was published on.

    `files` are what a person downloads to run it; `extras` lie beside them (the importance matrix). `caveat` is how
    its runtime is known to differ from the source on such a model.
    """

    recipe: str
    title: str
    precision: Precision
    preset: str
    suits: str
    devices: tuple[str, ...] = ()
    recipe_digest: Sha256
    toolchain: Sha256
    made_from: str = ""
    version: str
    files: tuple[ArtifactFile, ...]
    extras: tuple[ArtifactFile, ...] = ()
    bits_per_weight: float
    fidelity: Fidelity
    by_hand: tuple[str, ...] = ()
    caveat: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(f.size for f in self.files)


class Declined(Frozen):
    """A recipe that was wanted and is not there: the verdict or the gate said no."""

    recipe: str
    recipe_digest: Sha256
    toolchain: Sha256
    made_from: str = ""
    by: Literal["verdict", "gate"]
    reason: str


class RecipeMark(Frozen):
    """Which form of a recipe a variant was made (or declined) with, from which source bytes, for which version."""

    digest: Sha256
    toolchain: Sha256
    made_from: str = ""
    version: str | None = None
    bytes: int | None = None
    kl_mean: float | None = None


class Summary(Frozen):
    """The card's `phimill:` block."""

    schema_version: int = SCHEMA
    backend: str
    source: str
    source_sha: Sha
    digests: SourceDigests
    version: str
    complete: bool
    recipes: dict[str, RecipeMark] = Field(default_factory=dict)
    declined: dict[str, RecipeMark] = Field(default_factory=dict)


class Publication(Frozen):
    """The whole state of one target repo. `version` is being built while `complete` is false, and a tag afterwards.

    `versions` maps every version so far to the source sha it was made from; `tools` are the packages that made it.
    `signer` is the fingerprint of the key that signed the commit, if one did.
    """

    schema_version: int = SCHEMA
    repo: str
    backend: str
    source: str
    source_sha: Sha
    source_files: tuple[SourceFile, ...] = ()
    architecture: str = ""
    parameters: int = 0
    original_context: int | None = None
    longrope: bool = False
    traits: Traits | None = None
    license: str | None = None
    license_link: str | None = None
    language: tuple[str, ...] = ()
    private: bool = False
    digests: SourceDigests
    version: str
    complete: bool
    variants: tuple[PublishedVariant, ...] = ()
    declined: tuple[Declined, ...] = ()
    versions: dict[str, Sha] = Field(default_factory=dict)
    tools: dict[str, str] = Field(default_factory=dict)
    calibration_sha256: Sha256 | None = None
    evaluation_sha256: Sha256 | None = None
    sandbox: str = "unknown"
    phimill: str = ""
    signer: Sha256 | None = None

    def summary(self) -> Summary:
        """What the planner needs of this state, and no more."""
        return Summary(
            backend=self.backend,
            source=self.source,
            source_sha=self.source_sha,
            digests=self.digests,
            version=self.version,
            complete=self.complete,
            recipes={
                v.recipe: RecipeMark(
                    digest=v.recipe_digest,
                    toolchain=v.toolchain,
                    made_from=v.made_from,
                    version=v.version,
                    bytes=v.bytes,
                    kl_mean=v.fidelity.kl_mean,
                )
                for v in self.variants
            },
            declined={
                d.recipe: RecipeMark(digest=d.recipe_digest, toolchain=d.toolchain, made_from=d.made_from)
                for d in self.declined
            },
        )


# What stands in the repos of an account: by source and backend, then by repo.
Standing = dict[tuple[str, str], dict[str, Summary]]


class Stand(Frozen):
    """Where a variant stands published, and its figures. `tag` is what to pin."""

    repo: str
    tag: str
    bytes: int
    kl_mean: float


def stands(repos: Mapping[str, Summary], made_from: str) -> dict[str, Stand]:
    """By recipe, what stands in these repos that was made from these source bytes.

    A card is untrusted, even one of ours: figures that make no sense are no evidence.
    """
    found = {}
    for repo, summary in repos.items():
        for recipe, mark in summary.recipes.items():
            size, distance = mark.bytes or 0, mark.kl_mean
            if mark.made_from == made_from and size > 0 and distance is not None and math.isfinite(distance):
                found[recipe] = Stand(repo=repo, tag=_pinned(summary, mark), bytes=size, kl_mean=distance)
    return found


def _pinned(summary: Summary, mark: RecipeMark) -> str:
    """The newest tag that holds a variant, or `main` while the first such version is being built."""
    if summary.complete:
        return summary.version
    return mark.version if mark.version not in (None, summary.version) else "main"
