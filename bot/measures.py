"""What was measured of a variant: how near its outputs and its weights are to its source's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt

from bot.models import Frozen


class Sample(Frozen):
    """One prompt continued greedily by the source and by the variant."""

    prompt: str
    source: str
    variant: str
    common_prefix: int
    source_stopped: bool
    variant_stopped: bool


Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WeightOutlier(Frozen):
    """A matrix whose relative quantization error is unlike the `usual` one of its siblings in other layers."""

    tensor: Annotated[str, Field(max_length=300)]
    kind: Annotated[str, Field(max_length=100)]
    error: Share
    usual: Share


class WeightErrors(Frozen):
    """How each matrix of a variant was compared with its siblings, as `converters/outliers.py` does it.

    `compared` matrices in so many `groups` of siblings; not those with too few (`without_siblings`), nor those of the
    source that could not be told in the variant (`not_found`). Of the `stand_out`, `outliers` are those that do most.
    """

    compared: NonNegativeInt
    groups: NonNegativeInt
    without_siblings: NonNegativeInt
    not_found: NonNegativeInt
    stand_out: NonNegativeInt
    outliers: Annotated[tuple[WeightOutlier, ...], Field(max_length=32)] = ()


class Fidelity(Frozen):
    """How far a variant is from its source. KL in nats, over all positions of all windows.

    `baseline_kl_mean` compares the same variant with its backend's own unquantized export: what is left is
    quantization error alone; the rest is the runtime's. `weights` is None where weights were not compared.
    """

    kl_mean: float
    kl_p99: float
    top1: float
    perplexity_ratio: float
    baseline_kl_mean: float | None = None
    chat_kl_mean: float | None = None
    windows: int
    window_tokens: int
    finite: bool
    same_end_tokens: bool
    tokenizer_agrees: bool
    samples: tuple[Sample, ...] = ()
    weights: WeightErrors | None = None
