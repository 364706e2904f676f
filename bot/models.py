"""The nouns of the mill: frozen values, parsed once at the border and passed around as they are."""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bot.errors import InvalidRepoId

Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RepoId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$", max_length=96)]

_REPO_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(*parts: object) -> str:
    """sha256 (hex) of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


class Frozen(BaseModel):
    """An immutable value; unknown fields are an error, so that a typo never passes for data."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RepoRef(Frozen):
    """A model repo on the Hub, and optionally a revision of it."""

    repo: str
    revision: str | None = None

    @property
    def owner(self) -> str:
        return self.repo.split("/")[0]

    @property
    def name(self) -> str:
        return self.repo.split("/")[1]

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    @classmethod
    def parse(cls, text: str, endpoint: str = "https://huggingface.co") -> RepoRef:
        """Read `owner/name`, `owner/name@revision`, or a URL whose host is exactly the endpoint's.

        Raises:
            InvalidRepoId: anything else, including look-alike letters, `..`, and URLs of other hosts.
        """
        rest = text.strip().removeprefix("hf://")
        if "://" in rest:
            base = endpoint.rstrip("/") + "/"
            if not rest.startswith(base):
                raise InvalidRepoId(f"{text!r} is not a repo of {endpoint}.", "Give it as owner/name.")
            rest = rest[len(base) :].rstrip("/").replace("/tree/", "@", 1)
        repo, at, revision = rest.partition("@")
        if not _REPO_ID.fullmatch(repo) or len(repo) > 96 or ".." in repo or "--" in repo or repo.endswith(".git"):
            raise InvalidRepoId(f"{text!r} is not a repo id.", "Give it as owner/name or owner/name@revision.")
        if at and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
            raise InvalidRepoId(f"{revision!r} is not a revision.", "Use a branch, a tag or a commit sha.")
        return cls(repo=repo, revision=revision or None)


class SourceFile(Frozen):
    """One file of a source repo. `digest` is the sha256 for LFS files and the git blob sha1 for small ones."""

    path: str
    size: int
    digest: str


class FileKind(StrEnum):
    """What a change of a source file means for what was made from it."""

    WEIGHTS = "weights"
    ASSETS = "assets"
    README = "readme"
    IGNORED = "ignored"


class Traits(Frozen):
    """What makes one Phi different from another, as far as a converter cares. Read from metadata alone."""

    longrope: bool = False
    original_context: int | None = None
    context: int = 2048
    tied_embeddings: bool = False
    partial_rotary: float = 1.0
    experts: int = 0
    vision: bool = False
    audio: bool = False
    remote_code: bool = False
    tokenizer: Literal["spm", "bpe", "tiktoken", "none"] = "none"
    vocab: int = 0
    hidden: int = 0
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0


class Release(Frozen):
    """A Phi checkpoint at one exact commit: everything the planner and the verdict need, no weights."""

    repo: str
    sha: str
    architecture: str
    model_type: str
    dtype: str
    parameters: int
    traits: Traits
    files: tuple[SourceFile, ...]
    license: str | None = None
    license_link: str | None = None
    language: tuple[str, ...] = ()
    base_model: str | None = None
    private: bool = False
    gated: bool = False

    @property
    def name(self) -> str:
        return self.repo.split("/")[1]

    @property
    def weight_bytes(self) -> int:
        return sum(f.size for f in self.files if f.path.endswith(".safetensors"))


class Precision(StrEnum):
    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"
    INT4 = "INT4"
    OTHER = "other"


class Runtime(Frozen):
    """What a runtime holds beside the weights while it runs a variant; `bot.advisor` adds it up.

    `memory_bytes` is the program itself. It works on `batch` tokens of a prompt at once (0: on all of them), and has
    the logits of each of them, or of the last one alone (`all_logits` false). `scores`: it holds the attention scores
    of a batch against the whole context, as without flash attention. `cache_bytes` is the size of a value in the KV
    cache. The defaults are a careful guess for a runtime that nobody has measured.
    """

    memory_bytes: int = 100_000_000
    batch: int = 512
    all_logits: bool = True
    scores: bool = True
    cache_bytes: float = 2


class Recipe(Frozen):
    """One way of making one variant. Data: read from a backend's `recipes.toml`.

    `repo` is the target with {ns} and {m}, `file` the variant's first file in it. `baseline` is the recipe of the
    unquantized export that this one is measured against. `only_when` names traits and what they have to be.
    `runtime_error` says, by trait, why the runtime is known not to run such a model as the source does: the variant is
    published all the same, with both figures. `within_original_context`: made for contexts up to the original one of a
    LongRoPE model, and wrong beyond it. `embedding_bits`: bits per weight of the token embedding, where it is stored
    apart from the output matrix. What making it costs: `cpu_seconds` per GB (1e9 bytes) and `memory_per_byte` per byte
    of the source's weights at 16 bits.
    """

    id: str
    backend: str
    title: str
    precision: Precision
    preset: Literal["recommended", "cookbook", "ladder"]
    default: bool = False
    repo: str
    file: str
    baseline: str
    bits_per_weight: float
    suits: str
    devices: tuple[str, ...] = ()
    only_dtype: str | None = None
    only_when: dict[str, bool] = Field(default_factory=dict)
    runtime_error: dict[str, str] = Field(default_factory=dict)
    within_original_context: bool = False
    embedding_bits: float | None = None
    runtime: Runtime = Runtime()
    cpu_seconds: float = 0
    memory_per_byte: float = 0
    options: dict[str, Any] = Field(default_factory=dict)
    by_hand: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes when the bytes the recipe makes could change."""
        return digest(self.id, self.file, self.options)

    def target(self, namespace: str, model: str) -> str:
        """The repo that this variant of `model` is published to."""
        return self.repo.format(ns=namespace, m=model)

    def suits_release(self, release: Release) -> bool:
        """Whether the recipe is meant for a release with this element type and these traits."""
        traits = all(bool(getattr(release.traits, name)) is wanted for name, wanted in self.only_when.items())
        return traits and self.only_dtype in (None, release.dtype)

    def known_error(self, traits: Traits) -> str | None:
        """Why the runtime is known to run a model with these traits otherwise than the source does."""
        return next((why for trait, why in self.runtime_error.items() if getattr(traits, trait)), None)


class Status(StrEnum):
    SUPPORTED = "supported"
    CAVEAT = "caveat"
    UNSUPPORTED = "unsupported"
    KNOWN_BROKEN = "known_broken"


class Needs(Frozen):
    """What a variant is expected to cost: bytes of memory and disk, minutes on two cores, bytes to download."""

    memory: int
    disk: int
    minutes: float
    output: int


class Verdict(Frozen):
    """The answer for one recipe, before a byte of weights is downloaded.

    `lacks` says what this machine has too little of; it is no property of the release.
    """

    recipe: str
    status: Status
    reasons: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    needs: Needs | None = None
    lacks: tuple[str, ...] = ()

    @property
    def convertible(self) -> bool:
        return self.status in (Status.SUPPORTED, Status.CAVEAT)


class ArtifactFile(Frozen):
    """A finished file: path inside the repo it will be published to, bytes, sha256."""

    path: str
    size: int
    sha256: Sha256

    @classmethod
    def of(cls, path: str, data: bytes) -> ArtifactFile:
        return cls(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


class Artifact(Frozen):
    """What a converter made for one recipe: what is downloaded to run it, and what lies beside it."""

    recipe: str
    files: tuple[ArtifactFile, ...]
    extras: tuple[ArtifactFile, ...] = ()
    bits_per_weight: float
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(f.size for f in self.files)
