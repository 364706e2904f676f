"""Which variant of a release to run on a device, why, and how to get it.

`bot.fitting` has the arithmetic and the order of preference; this adds what stands published, what the verdict lets be
made, and the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bot import recipes
from bot.catalog import classify_files
from bot.costs import variant_bytes
from bot.devices import Device
from bot.fitting import DEFAULT_CONTEXT, Footprint, Option, best, footprint, least
from bot.models import Frozen, Precision, Recipe, Release, Verdict
from bot.publication import Stand, Summary, stands
from bot.recipes import Snippet
from bot.snippets import fill, names
from bot.templates.filters import kl, size

SHORTEST_CONTEXT = 512
LEFT_OUT = ", and variants made for it alone are left out"


class Choice(Frozen):
    """A variant that was chosen. `left` are the bytes that stay free: fewer than none where it does not fit.

    `snippets` pull and run it. Where it is not `published` they make it, and `needs` is an estimate.
    """

    recipe: str
    backend: str
    title: str
    precision: Precision
    published: bool
    repo: str | None = None
    tag: str | None = None
    kl_mean: float | None = None
    needs: Footprint
    left: int
    caveats: tuple[str, ...] = ()
    snippets: tuple[Snippet, ...] = ()


class Advice(Frozen):
    """What to run on a device. Where nothing fits there is no `pick`, but the `smallest` that exists.

    `usable` are the bytes of `memory` that a model may have; `context` are the tokens that this is for.
    """

    repo: str
    sha: str
    device: str
    memory: int
    usable: int
    context: int
    pick: Choice | None = None
    runner_up: Choice | None = None
    smallest: Choice | None = None
    why: str
    notes: tuple[str, ...] = ()


def advise(
    release: Release,
    verdicts: Sequence[Verdict],
    standing: Mapping[str, Summary],
    device: Device,
    memory: int | None = None,
    context: int | None = None,
) -> Advice:
    """What of `release` to run on a device with `memory` bytes (its usual ones), reading `context` tokens.

    `standing` is what our repos say they hold of this source, by repo.
    """
    return _Case(release, verdicts, standing, device, memory or device.memory, context or DEFAULT_CONTEXT).advice()


class _Case:
    """One question, and what its answer is made from."""

    def __init__(
        self,
        release: Release,
        verdicts: Sequence[Verdict],
        standing: Mapping[str, Summary],
        device: Device,
        memory: int,
        context: int,
    ) -> None:
        self._release, self._traits = release, release.traits
        self._device, self._memory, self._usable = device, memory, device.usable(memory)
        self._asked, self._context = context, min(context, release.traits.context)
        self._verdicts = {verdict.recipe: verdict for verdict in verdicts}
        self._stands = stands(standing, classify_files(release).made_from)
        # Published or allowed, and meant for the device.
        self._recipes = {
            recipe.id: recipe
            for recipe in recipes.by_id(self._verdicts)
            if device.id in recipe.devices and (recipe.id in self._stands or self._verdicts[recipe.id].convertible)
        }

    def advice(self) -> Advice:
        options = self._options(self._context)
        fitting = [o for o in options if o.needs.total <= self._usable]
        pick = best(fitting)
        second = best([o for o in fitting if o is not pick])
        smallest = None if pick else least(options)
        return Advice(
            repo=self._release.repo,
            sha=self._release.sha,
            device=self._device.id,
            memory=self._memory,
            usable=self._usable,
            context=self._context,
            pick=self._choice(pick),
            runner_up=self._choice(second),
            smallest=self._choice(smallest),
            why=self._why(pick, fitting) if pick else self._why_not(smallest),
            notes=tuple(self._notes(pick, second, smallest)),
        )

    def _options(self, context: int) -> list[Option]:
        """What could run with so many tokens of context, if there were memory enough."""
        release, traits = self._release, self._traits
        source_bits = 32 if release.dtype == "float32" else 16
        options = []
        for recipe in self._recipes.values():
            if recipe.within_original_context and self._beyond(context):
                continue
            stand = self._stands.get(recipe.id)
            weights = stand.bytes if stand else variant_bytes(release, recipe)
            options.append(
                Option(
                    recipe=recipe.id,
                    title=recipe.title,
                    preset=recipe.preset,
                    devices=recipe.devices,
                    bits=min(recipe.bits_per_weight, source_bits),
                    kl_mean=stand.kl_mean if stand else None,
                    differs=recipe.known_error(traits) is not None,
                    needs=footprint(traits, weights, recipe.runtime, context),
                )
            )
        return options

    def _beyond(self, context: int) -> bool:
        """Whether the model turns to its other RoPE factors for so many tokens."""
        return self._traits.longrope and context > (self._traits.original_context or context)

    def _choice(self, option: Option | None) -> Choice | None:
        if option is None:
            return None
        recipe, stand = self._recipes[option.recipe], self._stands.get(option.recipe)
        return Choice(
            recipe=recipe.id,
            backend=recipe.backend,
            title=recipe.title,
            precision=recipe.precision,
            published=stand is not None,
            repo=stand.repo if stand else None,
            tag=stand.tag if stand else None,
            kl_mean=option.kl_mean,
            needs=option.needs,
            left=self._usable - option.needs.total,
            caveats=self._caveats(recipe),
            snippets=self._snippets(recipe, stand),
        )

    def _caveats(self, recipe: Recipe) -> tuple[str, ...]:
        verdict = self._verdicts[recipe.id]
        own = (f"It is made for contexts of up to {self._traits.original_context} tokens.",)
        said = verdict.reasons if verdict.convertible else ()
        return (*said, *(own if recipe.within_original_context else ()))

    def _snippets(self, recipe: Recipe, stand: Stand | None) -> tuple[Snippet, ...]:
        if stand is None:
            command = f"phimill convert {self._release.repo} --recipe {recipe.id}"
            return (Snippet(title="Not published yet; make it", language="sh", code=command),)
        file = recipe.file.format(m=self._release.name)
        values = names(repo=stand.repo, source=self._release.repo, tag=stand.tag, file=file, context=self._context)
        given = recipes.backends()[recipe.backend].snippets
        return tuple(s.model_copy(update={"code": fill(s.code, values).strip("\n")}) for s in given)

    def _why(self, pick: Option, fitting: Sequence[Option]) -> str:
        """Why this one, in one sentence."""
        rivals = [o for o in fitting if (o.kl_mean is None) == (pick.kl_mean is None)]
        if pick.kl_mean is not None:
            return _why_published(pick, pick.kl_mean, rivals)
        lead = "Nothing is published for this device yet"
        if self._stands.keys() & self._recipes.keys():
            lead = "Nothing that is published for this device fits"
        if len(rivals) == 1:
            return f"{lead}; this is the only recipe that would fit."
        most = pick.bits >= max(o.bits for o in rivals)
        merit = "the most bits per weight" if most else "about the most bits per weight, in the least space"
        return f"{lead}; of {len(rivals)} recipes that would fit, this one keeps {merit}."

    def _why_not(self, smallest: Option | None) -> str:
        """Why there is no pick, in one sentence."""
        if smallest is None:
            return "Nothing that is published or can be made of this release suits this device and this context."
        least_memory = self._device.holding(smallest.needs.total)
        return (
            f"Nothing fits: a model may have {size(self._usable)} of the {size(self._memory)}, and the smallest, "
            f"{smallest.title}, needs {size(smallest.needs.total)}, so a device with {size(least_memory)}."
        )

    def _notes(self, pick: Option | None, second: Option | None, smallest: Option | None) -> Iterator[str]:
        traits = self._traits
        if self._asked > traits.context:
            yield f"The model reads at most {traits.context} tokens; this is for so many, not for {self._asked}."
        if self._beyond(self._context):
            left_out = any(recipe.within_original_context for recipe in self._recipes.values())
            yield (
                f"Beyond its original context of {traits.original_context} tokens the model uses other RoPE factors; "
                f"what was measured was measured within it{LEFT_OUT if left_out else ''}."
            )
        if any(o is not None and o.kl_mean is None for o in (pick, second, smallest)):
            yield "Sizes of what is not published are estimates."
        if smallest is not None and (shorter := self._shorter()) is not None:
            yield f"With a context of {shorter[1]} tokens, {shorter[0].title} would fit."

    def _shorter(self) -> tuple[Option, int] | None:
        """What would fit with a half, a quarter... of the context, and how much that is."""
        context = self._context // 2
        while context >= SHORTEST_CONTEXT:
            options = self._options(context)
            if (found := best([o for o in options if o.needs.total <= self._usable])) is not None:
                return found, context
            context //= 2
        return None


def _why_published(pick: Option, distance: float, rivals: Sequence[Option]) -> str:
    figure = f"mean KL {kl(distance)}"
    if len(rivals) == 1:
        return f"It is the only published variant that fits ({figure})."
    if all(o.kl_mean is None or distance <= o.kl_mean for o in rivals):
        return f"Of {len(rivals)} published variants that fit, this one is the nearest to the source ({figure})."
    return (
        f"Of {len(rivals)} published variants that fit, none is nearer to the source than this one by more than noise "
        f"({figure}), so size decides."
    )
