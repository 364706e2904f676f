"""What can be wrong with a release for every backend alike, seen in its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bot import chat_template
from bot.architectures import ARCHITECTURES
from bot.catalog import DTYPES
from bot.models import Frozen, Recipe, Release, Status
from bot.safetensors_header import Tensor

FLOATS = frozenset(DTYPES.values())

# How people call the traits that a recipe may ask for.
TRAITS = {"longrope": "LongRoPE", "tied_embeddings": "tied embeddings", "experts": "experts"}

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

_LAYER = re.compile(r"model\.layers\.(\d+)\.")


class Problem(Frozen):
    """Something that makes a verdict worse than `supported`."""

    status: Status
    reason: str
    links: tuple[str, ...] = ()


def unsupported(reason: str, *links: str) -> Problem:
    return Problem(status=Status.UNSUPPORTED, reason=reason, links=links)


def caveat(reason: str, *links: str) -> Problem:
    return Problem(status=Status.CAVEAT, reason=reason, links=links)


def of_release(release: Release, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Problems of the release itself, whatever is to be made of it."""
    if release.traits.remote_code:
        yield unsupported("It runs only with code from its own repo, which is never executed.")
    if not release.weight_bytes:
        pickles = any(file.path.endswith(PICKLES) for file in release.files)
        why = "; its weights are pickles, which are never loaded" if pickles else ""
        yield unsupported(f"It has no safetensors{why}.")
        return
    if release.dtype not in FLOATS or "quantization_config" in config:
        yield unsupported(f"Its weights are quantized already ({release.dtype}).")
    if release.traits.tokenizer == "none":
        yield unsupported("It has no tokenizer files.")
    if release.private:
        yield caveat("It is private; so will be what is published of it.")
    if release.gated:
        yield caveat("It is gated: see whether its terms allow publishing conversions that are not.")
    if _parts(release):
        yield caveat(f"Only its text part is converted, not {_parts(release)}.")
    elif ARCHITECTURES[release.architecture].native:
        # Multimodal models and those with their own code name their tensors in ways of their own.
        yield from contradictions(release, tensors)


def of_templates(templates: Iterable[object]) -> Iterator[Problem]:
    """Problems of the release's chat templates, which go along with all that is made of it."""
    reasons = (reason for template in templates if (reason := chat_template.why_not(template)) is not None)
    yield from map(unsupported, dict.fromkeys(reasons))


def unsuited(release: Release, recipe: Recipe) -> Iterator[str]:
    """Why a recipe is not meant for this release; nothing where it is (`Recipe.suits_release`)."""
    if recipe.only_dtype not in (None, release.dtype):
        yield f"It is for {recipe.only_dtype} sources; this one is {release.dtype}."
    for trait, wanted in recipe.only_when.items():
        if bool(getattr(release.traits, trait)) is not wanted:
            yield f"It is for models {'with' if wanted else 'without'} {TRAITS.get(trait, trait)}."


def of_recipe(release: Release, recipe: Recipe) -> Iterator[Problem]:
    """Problems of one recipe with this release."""
    yield from map(unsupported, unsuited(release, recipe))
    if (known := recipe.known_error(release.traits)) is not None:
        yield caveat(known)


def contradictions(release: Release, tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Where the tensors are not what config.json says."""
    traits = release.traits
    table = (traits.vocab, traits.hidden)
    embedding = tensors.get("model.embed_tokens.weight")
    if embedding is None or embedding.shape != table:
        yield _wrong("model.embed_tokens.weight", embedding, table)
    head = tensors.get("lm_head.weight")
    if not (traits.tied_embeddings and head is None) and (head is None or head.shape != table):
        yield _wrong("lm_head.weight", head, table)
    layers = {int(match[1]) for name in tensors if (match := _LAYER.match(name))}
    if layers != set(range(traits.layers)):
        yield unsupported(f"config.json says {traits.layers} layers; the weights hold {len(layers)}.")
    rows = (traits.heads + 2 * traits.kv_heads) * traits.head_dim
    fused = [t for name, t in tensors.items() if name.endswith(".self_attn.qkv_proj.weight")]
    if any(t.shape != (rows, traits.hidden) for t in fused):
        yield unsupported("The attention weights do not have the heads that config.json says.")


def _wrong(name: str, tensor: Tensor | None, expected: tuple[int, ...]) -> Problem:
    if tensor is None:
        return unsupported(f"The weights lack {name}.")
    return unsupported(f"{name} is {list(tensor.shape)}; config.json says {list(expected)}.")


def _parts(release: Release) -> str:
    traits = release.traits
    return " and ".join(name for name, there in (("vision", traits.vision), ("audio", traits.audio)) if there)
