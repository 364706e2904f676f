"""Says in plain words what a published repo is, where it came from, what was measured, and how to check it.

All of it is what the repo says about itself. Whether that is true is what `phimill verify` finds out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bot import agreement, recipes
from bot.errors import NotOurs
from bot.fidelity import weights_note
from bot.hub import Hub
from bot.models import Frozen
from bot.publication import (
    CARD_PATH,
    RECEIPT_PATH,
    SIGNATURE_PATH,
    STATEMENT_PATH,
    Publication,
    PublishedVariant,
)
from bot.templates import filters
from bot.verify import MAX_DOCUMENT, Published

AUDIT = "The source's weights were not audited: a model can be trained so that only its quantized form misbehaves."


class Section(Frozen):
    """Some sentences under a heading."""

    title: str
    lines: tuple[str, ...]


class Explanation(Frozen):
    """A repo at one commit, explained."""

    repo: str
    revision: str
    sha: str
    source: str
    source_sha: str
    license: str | None
    sections: tuple[Section, ...]


def explain(hub: Hub, there: Published) -> Explanation:
    """Explain a repo of ours from its receipt, and its recipes' options from its statement.

    Raises:
        NotOurs: its receipt cannot be read.
        HubError: any other of its kinds.
    """
    held = there.publication
    if held is None:
        raise NotOurs(there.unreadable, f"`phimill verify {there.repo}@{there.revision}` says what else is wrong.")
    options: dict[str, dict[str, Any]] = {}
    if STATEMENT_PATH in {file.path for file in there.files}:
        said = hub.read_bytes(there.repo, there.sha, STATEMENT_PATH, MAX_DOCUMENT)
        options = agreement.options_of(agreement.read_statement(said))
    sections = (
        Section(title="What it is", lines=tuple(_what(there, held))),
        Section(title="Where it came from", lines=tuple(_whence(held))),
        Section(title="How it was made", lines=tuple(_how(held, options))),
        Section(title="What was measured", lines=tuple(_measured(held))),
        Section(title="What was not checked", lines=tuple(_limits(held))),
        Section(title="How to check it", lines=tuple(_check(there, held))),
    )
    return Explanation(
        repo=there.repo,
        revision=there.revision,
        sha=there.sha,
        source=held.source,
        source_sha=held.source_sha,
        license=held.license,
        sections=sections,
    )


def _what(there: Published, held: Publication) -> Iterator[str]:
    known = recipes.backends().get(held.backend)
    size = f" with {filters.count(held.parameters)} parameters" if held.parameters else ""
    model = f" ({held.architecture}{size})" if held.architecture else ""
    yield f"{there.repo} at {there.revision} (commit {there.sha}) is {held.source}{model}, converted by phimill."
    yield f"It is for {known.title if known else held.backend}, in {len(held.variants)} variants."
    if not held.complete:
        yield f"Version {held.version} is still being built: variants may be missing, and files will change."
    for declined in held.declined:
        by = "the verdict before conversion" if declined.by == "verdict" else "the gate after conversion"
        yield f"{declined.recipe} is not in it, refused by {by}: {declined.reason}"


def _whence(held: Publication) -> Iterator[str]:
    yield f"The source is {held.source} at commit {held.source_sha}."
    if held.source_files:
        total = filters.size(sum(file.size for file in held.source_files))
        yield f"{RECEIPT_PATH} has the digest of each of its {len(held.source_files)} files ({total})."
    earlier = {held.versions.get(v.version, held.source_sha): v.version for v in held.variants}
    for sha, version in earlier.items():
        if sha != held.source_sha:
            yield f"What was made for {version} was made from commit {sha}."
    named = f"{held.license} ({held.license_link})" if held.license and held.license_link else held.license
    yield f"Its licence, and so that of the conversions: {named or 'the source names none'}."


def _how(held: Publication, options: dict[str, dict[str, Any]]) -> Iterator[str]:
    tools = ", ".join(f"{name} {version}" for name, version in sorted(held.tools.items()))
    yield f"Made by phimill {held.phimill or '(version unknown)'}{f' with {tools}' if tools else ''}."
    for lock in sorted({v.toolchain for v in held.variants}):
        yield f"The packages were locked with their hashes; the lock's digest is {lock}."
    for variant in held.variants:
        files = ", ".join(f.path for f in variant.files[:1])
        more = f" and {len(variant.files) - 1} more files" if len(variant.files) > 1 else ""
        chosen = options.get(variant.recipe)
        said = f", options {json.dumps(chosen, sort_keys=True, ensure_ascii=False)}" if chosen else ""
        bits = f"{filters.size(variant.bytes)}, {variant.bits_per_weight:.2f} bits per weight"
        yield f"{variant.recipe}: {variant.title}, {files}{more} ({bits}), made for {variant.version}{said}."
    if held.calibration_sha256:
        yield f"What needs a calibration text got the one with SHA-256 {held.calibration_sha256}."
    yield f"The converters ran without token or network; the sandbox in force was {held.sandbox}."


def _measured(held: Publication) -> Iterator[str]:
    if not held.variants:
        yield "Nothing: no variant stands in it."
        return
    fidelity = held.variants[0].fidelity
    yield (
        "Each variant was loaded in its own runtime and compared with the source in PyTorch, on "
        f"{fidelity.windows} windows of {fidelity.window_tokens} tokens of a text that is never the calibration text"
        + (f" (SHA-256 {held.evaluation_sha256})." if held.evaluation_sha256 else ".")
    )
    yield from map(_figures, held.variants)
    for variant in held.variants:
        if variant.caveat:
            yield f"{variant.recipe}: {variant.caveat}"
        yield f"{variant.recipe}: {weights_note(variant.fidelity)}"
        for each in variant.fidelity.weights.outliers if variant.fidelity.weights else ():
            error = f"has a quantization error of {each.error:.2g}; {each.usual:.2g} is usual."
            yield f"{each.tensor} ({each.kind}) {error}"


def _figures(variant: PublishedVariant) -> str:
    fidelity = variant.fidelity
    text = (
        f"{variant.recipe}: mean KL to the source {_kl(fidelity.kl_mean)} nats, 99th percentile {_kl(fidelity.kl_p99)}"
    )
    if fidelity.baseline_kl_mean is not None:
        text += f", to its backend's own unquantized export {_kl(fidelity.baseline_kl_mean)}"
    top1 = f"the same first token in {100 * fidelity.top1:.2f} % of positions"
    return f"{text}; {top1}; perplexity ratio {fidelity.perplexity_ratio:.4f}."


def _kl(value: float) -> str:
    """A divergence with two digits. Unlike the card's, it can be no number: nobody has checked this receipt yet."""
    return f"{value:.2g}"


def _limits(held: Publication) -> Iterator[str]:
    yield AUDIT
    beyond = f"beyond the original context of {held.original_context} tokens, " if held.original_context else ""
    yield f"Nothing was evaluated {beyond}on other hardware, or for safety, bias or benchmarks."
    if held.signer:
        yield (
            "A signature shows who published these files, and that they are as they were published. Whether the "
            "weights come from that source, a rebuild shows."
        )
    else:
        yield (
            f"{RECEIPT_PATH} and {STATEMENT_PATH} are not signed: they show that the repo agrees with itself. Whether "
            "the weights come from that source, a rebuild shows."
        )


def _check(there: Published, held: Publication) -> Iterator[str]:
    place = f"{there.repo}@{there.revision}"
    yield f"phimill verify {place}: every file's bytes, {RECEIPT_PATH}, {STATEMENT_PATH}, {CARD_PATH} and the source."
    yield f"phimill verify --rebuild {place}: the same, and each variant made again from the source and compared."
    if held.signer:
        yield (
            f"phimill verify --key KEY {place}: that {SIGNATURE_PATH} is of that key, and covers every file. The "
            f"fingerprint of the key should be {held.signer}; whoever runs the mill has its public half to give."
        )
