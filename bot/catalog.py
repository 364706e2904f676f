"""Which repos on the Hub are Phi releases, and what they are. Metadata only: no weights.

A release is recognised by the class in its config.json, never by its name. Repos that are made *from* a
release (our own conversions, other people's quantizations, adapters, fine-tunes) are not releases; they can
still be asked for by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bot import chat_template, filenames, front_matter, safetensors_header
from bot.architectures import ARCHITECTURES
from bot.errors import SourceCorrupt, VerdictRefused
from bot.hub import Hub, RepoSummary
from bot.models import FileKind, Frozen, Release, RepoRef, SourceFile, digest
from bot.publication import SourceDigests
from bot.safetensors_header import Header, Tensor
from bot.traits import MAX_CONFIG, architecture, config_dtype, load_json, traits

MAX_SHARDS = 512
MAX_INDEX = 64 * 1024**2
MAX_CARD = 4 * 1024**2
MAX_FRONT_MATTER = 256 * 1024  # YAML is read slowly
OWN_BLOCK = "phimill"
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}

_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_LINK = re.compile(r"https?://[^\s<>\"'`]+|[A-Za-z0-9][A-Za-z0-9._/-]*")
_LANGUAGE = re.compile(r"[A-Za-z]{2,12}(-[A-Za-z0-9]{1,8})*")

# Tags that say "made from another model", in the Hub's spelling.
_DERIVED = ("base_model:quantized:", "base_model:adapter:", "base_model:merge:")
_DERIVED_TAGS = frozenset({"mlx", "peft", "lora"})
_OTHER_FORMATS = frozenset({"gguf", "onnx", "openvino"})
_DERIVED_RELATIONS = frozenset({"quantized", "adapter", "merge"})


class Candidate(Frozen):
    """A repo that is a Phi release by its listing alone."""

    repo: str
    sha: str
    architecture: str


def releases(hub: Hub, orgs: Iterable[str]) -> list[Candidate]:
    """The releases of the watched organisations, newest change first. One call per organisation and page.

    Raises:
        HubUnreachable, AccessDenied
    """
    return [
        Candidate(repo=summary.repo, sha=summary.sha, architecture=cls)
        for org in orgs
        for summary in hub.list_org(org)
        if (cls := _phi_class(summary)) and not why_not(summary, org)
    ]


def why_not(summary: RepoSummary, org: str) -> str | None:
    """Why a repo with a Phi's class is not a release of `org`, or None when it is one."""
    card, tags = summary.card, set(summary.tags)
    if summary.private:
        return "it is private"
    if OWN_BLOCK in card:
        return "it was made by phimill"
    if summary.quantized or card.get("base_model_relation") in _DERIVED_RELATIONS:
        return "it is derived from another model"
    if any(tag.startswith(_DERIVED) for tag in tags) or tags & _DERIVED_TAGS:
        return "it is derived from another model"
    if tags & _OTHER_FORMATS and "safetensors" not in tags:
        return "it holds another format only"
    bases = card.get("base_model") or []
    bases = [bases] if isinstance(bases, str) else bases
    strangers = [b for b in bases if isinstance(b, str) and b.split("/")[0] != org]
    # Microsoft's own instruct models name their base; somebody else's base makes it a fine-tune of that.
    return "it is a fine-tune of somebody else's model" if strangers else None


def release(hub: Hub, ref: RepoRef) -> Release:
    """Everything the planner and the verdict need of the model at `ref`, at the commit that it points to now.

    Costs one call for the commit, one for the listing, and one read per small file and per shard's header.

    Raises:
        VerdictRefused: not a Phi, or not a model at all.
        SourceCorrupt: config.json or a safetensors header does not make sense.
        HubError: any of its kinds.
    """
    standing = hub.look(ref)
    sha = standing.sha
    files = hub.tree(ref.repo, sha)
    filenames.check_all(files)
    config = read_config(hub, ref.repo, sha, files)
    cls = architecture(config)
    if cls not in ARCHITECTURES:
        raise VerdictRefused(
            f"{ref.repo} is not a Phi: its config.json names {cls or 'no class'}.",
            f"Phi classes are {', '.join(sorted(ARCHITECTURES))}.",
        )
    tensors = read_tensors(hub, ref.repo, sha, files)
    card = _card(hub, ref.repo, sha, files)
    return Release(
        repo=ref.repo,
        sha=sha,
        architecture=cls,
        model_type=_text(config.get("model_type")) or "",
        dtype=_dtype(tensors, config),
        parameters=sum(t.elements for t in tensors.values()),
        traits=traits(config, read_json(hub, ref.repo, sha, files, "tokenizer_config.json"), files),
        files=files,
        private=standing.private,
        gated=standing.gated,
        license=_named(_LICENSE, card.get("license")),
        license_link=_named(_LINK, card.get("license_link")),
        language=tuple(text for text in _texts(card.get("language")) if _LANGUAGE.fullmatch(text)),
        base_model=next(iter(_texts(card.get("base_model"))), None),
    )


def source_digests(files: Iterable[SourceFile]) -> SourceDigests:
    """One digest per kind of file. Comparing two says what an upstream commit changed: `planner.drift`."""
    by_kind: dict[FileKind, list[tuple[str, str]]] = {kind: [] for kind in FileKind}
    for file in files:
        by_kind[filenames.kind(file.path)].append((file.path, file.digest))
    return SourceDigests(
        weights=digest(sorted(by_kind[FileKind.WEIGHTS])),
        assets=digest(sorted(by_kind[FileKind.ASSETS])),
        readme=digest(sorted(by_kind[FileKind.README])),
    )


def classify_files(release: Release) -> SourceDigests:
    """`source_digests` of a release."""
    return source_digests(release.files)


def read_config(hub: Hub, repo: str, sha: str, files: tuple[SourceFile, ...]) -> dict[str, Any]:
    """The repo's config.json.

    Raises:
        VerdictRefused: there is none; an adapter, a GGUF repo, a data set.
    """
    names = {file.path for file in files}
    if "config.json" not in names:
        what = "an adapter" if "adapter_config.json" in names else "not a transformers model"
        raise VerdictRefused(f"{repo} is {what}: it has no config.json.", "Ask for the model that it belongs to.")
    return read_json(hub, repo, sha, files, "config.json")


def read_json(hub: Hub, repo: str, sha: str, files: tuple[SourceFile, ...], name: str) -> dict[str, Any]:
    """A small JSON file of the repo, or an empty table when the repo does not hold it."""
    if not any(file.path == name for file in files):
        return {}
    return load_json(name, hub.read_text(repo, sha, name, MAX_CONFIG))


def read_templates(
    hub: Hub, repo: str, sha: str, files: tuple[SourceFile, ...], tokenizer_config: Mapping[str, Any]
) -> tuple[object, ...]:
    """The repo's chat templates, wherever a runtime looks for one. What is no text is for the verdict to refuse."""
    fields = (tokenizer_config, read_json(hub, repo, sha, files, chat_template.PROCESSOR_FILE))
    found = [template for table in fields for template in chat_template.in_config(table.get("chat_template"))]
    if any(file.path == chat_template.FILE for file in files):
        found.append(hub.read_text(repo, sha, chat_template.FILE, chat_template.MAX_TEMPLATE))
    return tuple(found)


def read_headers(hub: Hub, repo: str, sha: str, files: tuple[SourceFile, ...]) -> dict[str, Header]:
    """The checked header of every safetensors file at the top of the repo, agreed with the index if there
    is one.

    Raises:
        SourceCorrupt: names the file and the tensor.
    """
    shards = [f for f in files if f.path.endswith(".safetensors") and filenames.kind(f.path) is FileKind.WEIGHTS]
    if len(shards) > MAX_SHARDS:
        raise SourceCorrupt(f"{repo} has more than {MAX_SHARDS} safetensors files.")
    headers = {}
    for shard in shards:

        def read_range(start: int, end: int, path: str = shard.path) -> bytes:
            return hub.read_range(repo, sha, path, start, end)

        headers[shard.path] = safetensors_header.read(shard.path, shard.size, read_range)
    if any(file.path == filenames.INDEX for file in files):
        text = hub.read_text(repo, sha, filenames.INDEX, MAX_INDEX)
        safetensors_header.check_index(filenames.INDEX, text, headers)
    elif len(shards) > 1:
        raise SourceCorrupt(f"{repo} has {len(shards)} safetensors files and no {filenames.INDEX}.")
    return headers


def read_tensors(hub: Hub, repo: str, sha: str, files: tuple[SourceFile, ...]) -> dict[str, Tensor]:
    """Every tensor of the repo by name; empty when it has no safetensors. Raises as `read_headers`."""
    return safetensors_header.merge(read_headers(hub, repo, sha, files).values())


def _phi_class(summary: RepoSummary) -> str | None:
    first = summary.architectures[:1]
    return first[0] if first and first[0] in ARCHITECTURES else None


def _dtype(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """The element type of most parameters; what config.json claims when there is nothing to look at."""
    weight: Counter[str] = Counter()
    for tensor in tensors.values():
        weight[tensor.dtype] += tensor.elements
    if not weight:
        return config_dtype(config)
    most = weight.most_common(1)[0][0]
    return DTYPES.get(most, most.lower())


def _card(hub: Hub, repo: str, sha: str, files: tuple[SourceFile, ...]) -> dict[str, Any]:
    """The card's front matter. A card that cannot be read costs the licence line, not the conversion."""
    size = next((file.size for file in files if file.path == "README.md"), 0)
    if not 0 < size <= MAX_CARD:
        return {}
    try:
        text = hub.read_text(repo, sha, "README.md", MAX_CARD).replace("\r\n", "\n")
        if not text.startswith("---\n"):
            return {}
        written = text[4:].split("\n---", 1)[0]
        front = front_matter.load(written) if len(written) <= MAX_FRONT_MATTER else None
    except (front_matter.Unreadable, SourceCorrupt):
        return {}
    return front if isinstance(front, dict) else {}


def _named(shape: re.Pattern[str], value: object) -> str | None:
    """A text of that shape, or nothing: what a source says of itself goes onto our card and into the files."""
    text = _text(value)
    return text if text and shape.fullmatch(text) else None


def _text(value: object) -> str | None:
    """A short printable text, or nothing."""
    return value if isinstance(value, str) and len(value) <= 300 and value.isprintable() else None


def _texts(value: object) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    return tuple(text for item in found[:200] if (text := _text(item)))
