"""What a variant needs of a device's memory, and which of several variants to take.

In which order (`best`):

1. What is published goes before what somebody would have to make first.
2. Of published variants the one with the lowest mean KL, as measured. Less than `NOISE` more, or a tenth more, is no
   difference. Of recipes the one that keeps the most bits per weight, up to those that the source has. One whose
   runtime is known to run such a model otherwise than the source comes last.
3. Of those between which there is no difference the smallest. Where their sizes are within a tenth of the smallest,
   recommended goes before cookbook before ladder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot import recipes
from bot.devices import Device, devices
from bot.models import Frozen, Runtime, Traits
from bot.publication import Publication

DEFAULT_CONTEXT = 4096  # tokens, where nobody says
NOISE = 1e-4  # nats
TENTH = 1.1
SAME_BITS = 1.05
HIDDEN_STATES = 5  # of a batch, held at the same time
_PRESETS = {"recommended": 0, "cookbook": 1, "ladder": 2}


class Footprint(Frozen):
    """Bytes of memory that running a variant takes. `runtime` is the program and what it computes in."""

    weights: int
    cache: int
    runtime: int
    total: int


class Option(Frozen):
    """A variant, as far as the choice cares. `kl_mean` is what was measured; None where it is not published.

    `bits` per weight count up to those of the source. `differs`: its runtime is known to run such a model otherwise
    than the source does.
    """

    recipe: str
    title: str
    preset: str
    devices: tuple[str, ...]
    bits: float
    kl_mean: float | None = None
    differs: bool = False
    needs: Footprint


class DeviceRow(Frozen):
    """A device that a repo has a variant for, and which one: a row of its card."""

    device: Device
    variant: str
    needs: int
    fits: bool


def footprint(traits: Traits, weights: int, runtime: Runtime, context: int) -> Footprint:
    """What a variant whose files have `weights` bytes holds while it runs with `context` tokens.

    The cache has a key and a value per layer, KV head and token. Beside it lies the larger of two tables in 32 bits:
    the logits of a batch, or its attention scores against the whole context with their mask; and some hidden states.
    """
    tokens = min(runtime.batch or context, context)
    cache = int(2 * traits.layers * traits.kv_heads * traits.head_dim * context * runtime.cache_bytes)
    logits = traits.vocab * (tokens if runtime.all_logits else 1)
    scores = (traits.heads + 1) * context * tokens if runtime.scores else 0
    held = runtime.memory_bytes + 4 * (max(logits, scores) + HIDDEN_STATES * traits.hidden * tokens)
    return Footprint(weights=weights, cache=cache, runtime=held, total=weights + cache + held)


def best(options: Sequence[Option]) -> Option | None:
    """The one to take, in the order above."""
    equal = _equally_good(options)
    smallest = min((o.needs.weights for o in equal), default=0)
    close = [o for o in equal if o.needs.weights <= TENTH * smallest]
    return min(close, key=lambda o: (_PRESETS.get(o.preset, 3), o.needs.weights, o.recipe), default=None)


def _equally_good(options: Sequence[Option]) -> list[Option]:
    """Those that what is known of their fidelity cannot tell apart."""
    measured = {o.recipe: o.kl_mean for o in options if o.kl_mean is not None}
    if measured:
        lowest = min(measured.values())
        limit = max(lowest + NOISE, lowest * TENTH)
        return [o for o in options if measured.get(o.recipe, limit + 1) <= limit]
    sound = [o for o in options if not o.differs] or options
    most = max((o.bits for o in sound), default=0)
    return [o for o in sound if o.bits >= most / SAME_BITS]


def least(options: Iterable[Option]) -> Option | None:
    """The one that needs the least memory."""
    return min(options, key=lambda o: (o.needs.total, o.recipe), default=None)


def by_device(publication: Publication, context: int) -> tuple[DeviceRow, ...]:
    """Which variant of a repo to take on each device that one suits, if the device has the usual memory.

    Where none fits, the one that needs the least. Empty for receipts from before they held the model's traits.
    """
    traits = publication.traits
    if traits is None:
        return ()
    known = {recipe.id: recipe.runtime for recipe in recipes.all_recipes()}
    options = [
        Option(
            recipe=v.recipe, title=v.title, preset=v.preset, devices=v.devices, bits=v.bits_per_weight,
            kl_mean=v.fidelity.kl_mean, needs=footprint(traits, v.bytes, known.get(v.recipe, Runtime()), context),
        )
        for v in publication.variants
    ]  # fmt: skip
    rows = []
    for device in devices().values():
        suited = [o for o in options if device.id in o.devices]
        pick = best([o for o in suited if o.needs.total <= device.usable(device.memory)])
        if shown := pick or least(suited):
            row = DeviceRow(device=device, variant=shown.title, needs=shown.needs.total, fits=pick is not None)
            rows.append(row)
    return tuple(rows)
