"""The gate: is a variant close enough to its source to be published?

The measuring is done by the backend's own child (`evaluate`); this file only judges the figures. KL is in
nats, the mean over every scored position of every window.

Two errors are kept apart, because they have different cures:

* *quantization error*: a variant against its backend's own unquantized export (`baseline_kl_mean`). Judged
  by precision.
* *runtime error*: that unquantized export against the source in PyTorch (`kl_mean`). Judged by
  `gate_runtime`. A runtime that reads LongRoPE differently shows up here and nowhere else, whatever the
  precision.

"Stops" (where the source ends its answer, so does the variant) is strict for FP32, FP16 and INT8, whose
greedy answers should be the source's own. At INT4 and below one flipped token early on sends a greedy
answer down another road that may not end within the few tokens we generate, without the variant being
broken; the KL gate decides there, and the card reports what `stop_note` says.
"""

from __future__ import annotations

import math

from bot.measures import Fidelity
from bot.models import Precision
from bot.settings import Settings

ROUNDING = 0.01  # nats that 16-bit log-probabilities may take a KL below zero
STRICT_STOP = frozenset({Precision.FP32, Precision.FP16, Precision.INT8})


def limit(precision: Precision, settings: Settings) -> float:
    """The highest mean KL (nats) a variant of this precision may have. Anything unnamed is held to INT4's."""
    return {
        Precision.FP32: settings.gate_fp32,
        Precision.FP16: settings.gate_fp16,
        Precision.INT8: settings.gate_int8,
    }.get(precision, settings.gate_int4)


def judge(
    fidelity: Fidelity, precision: Precision, settings: Settings, *, unquantized: bool, known_error: bool = False
) -> str | None:
    """Say what is wrong with a variant, in one sentence with the figures; None when it may be published.

    Args:
        fidelity: what the backend measured.
        precision: decides which KL limit holds. A figure equal to its limit passes.
        settings: the limits (`gate_*`).
        unquantized: the variant is the backend's own unquantized export, so `kl_mean` is the runtime's error.
        known_error: the recipe discloses that its runtime differs from the source on such a model. Then only the
            quantization is judged; that error itself and where answers end are reported and not held against it.
    """
    if known_error:
        return _unusable(fidelity) or (
            None if unquantized else _too_far(fidelity, precision, settings, unquantized=False)
        )
    return (
        _unusable(fidelity)
        or (_runtime_error(fidelity, settings) if unquantized else None)
        or _too_far(fidelity, precision, settings, unquantized=unquantized)
        or (stop_note(fidelity) if precision in STRICT_STOP else None)
    )


def stop_note(fidelity: Fidelity) -> str | None:
    """Say on how many prompts the source ends its answer and the variant does not; None when on none."""
    ended = [s for s in fidelity.samples if s.source_stopped]
    missed = sum(not s.variant_stopped for s in ended)
    if not missed:
        return None
    return f"It does not stop on {missed} of {len(ended)} prompts where the source stops."


def weights_note(fidelity: Fidelity) -> str:
    """Say what comparing its matrices with their siblings in other layers has shown."""
    found = fidelity.weights
    if found is None or not found.compared:
        return "Its weights were not compared with the source's."
    verdict = f"{found.stand_out or 'none'} stand{'' if found.stand_out > 1 else 's'} out"
    rest = f" {found.without_siblings} have too few siblings to tell." if found.without_siblings else ""
    lost = f" {found.not_found} of the source's could not be told in it." if found.not_found else ""
    return f"Of {found.compared} matrices compared with their siblings in other layers, {verdict}.{rest}{lost}"


def _unusable(fidelity: Fidelity) -> str | None:
    """What no precision excuses: nothing measured, not finite, another tokenizer or other end tokens."""
    if fidelity.windows < 1 or fidelity.window_tokens < 1:
        return "Nothing was measured: 0 windows of text were compared."
    measured = {
        "mean KL": fidelity.kl_mean,
        "p99 KL": fidelity.kl_p99,
        "top-1 agreement": fidelity.top1,
        "perplexity ratio": fidelity.perplexity_ratio,
        "mean KL against the unquantized export": fidelity.baseline_kl_mean,
        "mean KL on chat": fidelity.chat_kl_mean,
    }
    # Asked before any comparison: every comparison with NaN is false, so NaN would pass the limits.
    wrong = [name for name, value in measured.items() if value is not None and not math.isfinite(value)]
    if wrong:
        return f"The {wrong[0]} is {measured[wrong[0]]}, not a finite number."
    wrong = [name for name, value in measured.items() if value is not None and not _possible(name, value)]
    if wrong:
        return f"The {wrong[0]} is {measured[wrong[0]]}, which cannot be."
    if not fidelity.finite:
        return "Its logits are not finite: they hold NaN or infinity."
    if not fidelity.tokenizer_agrees:
        return "Its tokenizer does not encode the evaluation text as the source's does."
    if not fidelity.same_end_tokens:
        return "Its end tokens are not those of the source."
    return None


def _possible(name: str, value: float) -> bool:
    """Whether a figure can have been measured at all."""
    if name == "top-1 agreement":
        return 0 <= value <= 1
    return value > 0 if name == "perplexity ratio" else value >= -ROUNDING


def _runtime_error(fidelity: Fidelity, settings: Settings) -> str | None:
    if fidelity.kl_mean <= settings.gate_runtime:
        return None
    return (
        f"Runtime error: the unquantized export is already at mean KL {fidelity.kl_mean:.3g} from the "
        f"source, and {settings.gate_runtime:.3g} is allowed."
    )


def _too_far(fidelity: Fidelity, precision: Precision, settings: Settings, *, unquantized: bool) -> str | None:
    """The precision's own limit, against the baseline where there is one.

    Without a baseline the figure against the source stands in: it holds both errors, so it never passes by
    accident.
    """
    allowed = limit(precision, settings)
    baseline = None if unquantized else fidelity.baseline_kl_mean
    kl, against = (fidelity.kl_mean, "the source") if baseline is None else (baseline, "the unquantized export")
    if kl <= allowed:
        return None
    name = "this precision" if precision is Precision.OTHER else precision.value
    return f"Mean KL {kl:.3g} against {against} is above the {allowed:.3g} allowed for {name}."
