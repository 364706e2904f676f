"""What llama.cpp's converter needs of a Phi beyond its class, as its code says (llama.cpp
`conversion/phi.py`).

Each rule here is a build that would have failed, or, worse, made a file that does not load or mis-tokenizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bot.errors import SourceCorrupt
from bot.models import Recipe, Release, Status
from bot.pretokenizer import Probed
from bot.problems import Problem, caveat, unsupported
from bot.recipes import PreTokenizers
from bot.safetensors_header import Tensor
from bot.traits import rope, text_part

K_BLOCK = 256  # weights per block of llama.cpp's K- and I-quants
_BLOCKED = ("_K", "IQ")
_SLIM_MOE = "https://github.com/ggml-org/llama.cpp/issues/22524"


def of_release(
    release: Release,
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    known: PreTokenizers,
    probe: Callable[[], Probed],
) -> Iterator[Problem]:
    """Problems of the release for every GGUF recipe. `probe` is called only if the tokenizer needs it."""
    yield from _shape(release, config)
    if release.architecture != "PhiForCausalLM":
        yield from _rope(release, config)
    yield from _tokenizer(release, tokenizer_config, known, probe)


def of_recipe(release: Release, recipe: Recipe, tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Problems of one GGUF recipe: rows that its blocks do not fit into."""
    kind = str(recipe.options.get("type", ""))
    if not any(part in kind for part in _BLOCKED):
        return
    odd = sorted({t.shape[-1] for t in tensors.values() if len(t.shape) == 2 and t.shape[-1] % K_BLOCK})
    if odd:
        yield caveat(
            f"Rows of {', '.join(map(str, odd[:4]))} weights do not fill the blocks of {K_BLOCK} "
            f"that {kind} has: llama.cpp stores those tensors in a larger type."
        )


def _shape(release: Release, config: Mapping[str, Any]) -> Iterator[Problem]:
    traits, text = release.traits, text_part(config)
    if traits.head_dim * traits.heads != traits.hidden:
        yield Problem(
            status=Status.KNOWN_BROKEN,
            reason="Its heads are not hidden / heads wide: llama.cpp converts it and then cannot load it.",
            links=(_SLIM_MOE,),
        )
    if release.architecture == "PhiForCausalLM":
        if text.get("intermediate_size", 4 * traits.hidden) != 4 * traits.hidden:
            yield unsupported("llama.cpp's Phi-2 has a feed-forward of 4 x hidden; this model has another.")
        return
    missing = [key for key in ("intermediate_size", "num_key_value_heads", "rms_norm_eps") if key not in text]
    if missing:
        yield unsupported(f"config.json lacks {', '.join(missing)}, which llama.cpp's converter reads.")


def _rope(release: Release, config: Mapping[str, Any]) -> Iterator[Problem]:
    traits, turned = release.traits, rope(config)
    if traits.original_context is None:
        yield unsupported("config.json lacks original_max_position_embeddings, which llama.cpp needs.")
    factors = [turned.get(name) for name in ("long_factor", "short_factor")]
    if not any(factors):
        return
    expected = int(traits.partial_rotary * traits.hidden) // traits.heads // 2
    if any(not isinstance(f, list) or len(f) != expected for f in factors):
        yield unsupported(f"Its RoPE factors are not {expected} long, as its heads need.")


def _tokenizer(
    release: Release,
    tokenizer_config: Mapping[str, Any],
    known: PreTokenizers,
    probe: Callable[[], Probed],
) -> Iterator[Problem]:
    """Phi-1 and Phi-2 are always BPE to llama.cpp; later ones if their tokenizer is a GPT2Tokenizer."""
    names = {file.path for file in release.files}
    cls = tokenizer_config.get("tokenizer_class")
    if release.architecture == "PhiForCausalLM" or cls == "GPT2Tokenizer":
        yield from _bpe(release, names, known, probe)
    elif "tokenizer_config.json" in names and not isinstance(cls, str):
        yield unsupported("tokenizer_config.json names no tokenizer_class; llama.cpp's converter reads it.")
    elif "tokenizer.model" not in names:
        yield unsupported(
            f"llama.cpp needs the SentencePiece file tokenizer.model for a {(cls or 'tokenizer')[:80]}, and the "
            "repo does not hold it; a tokenizer saved again by transformers 5 has lost it."
        )


def _bpe(release: Release, names: set[str], known: PreTokenizers, probe: Callable[[], Probed]) -> Iterator[Problem]:
    if "tokenizer.json" not in names:
        yield unsupported("It has no tokenizer.json, so nobody can tell which pre-tokenizer it needs.")
        return
    try:
        probed = probe()
    except SourceCorrupt as error:
        yield unsupported(error.message)
        return
    if probed.sha256 not in known.hashes:
        yield unsupported("llama.cpp does not know its pre-tokenizer; guessing one would tokenize wrongly.")
    if probed.highest >= release.traits.vocab:
        yield unsupported(
            f"Its tokenizer has token {probed.highest}, and the model's vocabulary ends at {release.traits.vocab - 1}."
        )
