"""Which of several measured recipes to take: what is known of each, the rule, and the choice. Pure functions.

All of it together is the evidence that lies beside a recipe chosen by `tune.py`. Nothing in here is a time of day: the
same figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bot import candidates, plot, recipes
from bot.measures import Fidelity
from bot.models import ArtifactFile, Frozen, Precision, Recipe, Release, Sha, Sha256
from bot.ui import words

AGAINST = {"source": "the source", "baseline": "the unquantized export"}


class Candidate(Frozen):
    """One recipe that was tried, and how it ended. `own`: it is one of the backend's recipes already.

    `kl` is the mean KL that counts: against the source, or against the backend's unquantized export where the runtime
    is known not to run such a model as the source does. `within`: it keeps to the size. `front`: nothing that passed
    the gate is both smaller and nearer.
    """

    recipe: str
    title: str
    own: bool
    preset: str
    file: str
    options: dict[str, Any]
    recipe_digest: Sha256
    status: Literal["measured", "gate_failed", "refused", "failed"]
    reason: str | None = None
    against: Literal["source", "baseline"] = "source"
    kl: float | None = None
    bytes: int | None = None
    bits_per_weight: float | None = None
    fidelity: Fidelity | None = None
    files: tuple[ArtifactFile, ...] = ()
    front: bool = False
    within: bool = False

    @property
    def name(self) -> str:
        """Its id without the backend's, which all of them share."""
        return self.recipe.partition("/")[2]


class Rule(Frozen):
    """How the choice is made. `max_bytes` is None when the recipe that sets the size could not be made."""

    yardstick: str
    max_bytes_ratio: float
    max_bytes: int | None
    text: str


class Tools(Frozen):
    """What the candidates were made and measured with."""

    toolchain: Sha256
    versions: dict[str, str]
    reference: Sha256
    code: str
    calibration_sha256: Sha256
    evaluation_sha256: Sha256
    windows: int
    window_tokens: int
    sandbox: str
    phimill: str


class Evidence(Frozen):
    """Everything that led to a choice: what `phimill tune --format json` prints. Candidates are listed by size."""

    schema_version: int = 1
    source: str
    source_sha: Sha
    backend: str
    precision: Precision
    made_with: Tools
    rule: Rule
    candidates: tuple[Candidate, ...]
    chosen: str | None
    recipe: Recipe | None

    @property
    def choice(self) -> Candidate | None:
        return next((c for c in self.candidates if c.recipe == self.chosen), None)


def ruled(tried: Sequence[Candidate], yardstick: str, ratio: float) -> Rule:
    """The rule with its size in bytes."""
    sizes = [c.bytes for c in tried if c.recipe == yardstick and c.bytes is not None]
    largest = int(ratio * sizes[0]) if sizes else None
    size = f", {words.size(largest)}" if sizes else ""
    text = f"The lowest mean KL of all that pass the gate and have at most {ratio:g} times {yardstick}'s size{size}."
    return Rule(yardstick=yardstick, max_bytes_ratio=ratio, max_bytes=largest, text=text)


def marked(tried: Sequence[Candidate], rule: Rule) -> tuple[Candidate, ...]:
    """The candidates by size, with the Pareto front and what keeps to the size marked."""
    front = {mark.label for mark in plot.pareto(_marks(tried))}
    largest = -1 if rule.max_bytes is None else rule.max_bytes
    return tuple(
        c.model_copy(update={"front": c.name in front, "within": c.bytes is not None and c.bytes <= largest})
        for c in sorted(tried, key=lambda c: (c.bytes is None, c.bytes or 0, c.recipe))
    )


def choose(tried: Sequence[Candidate]) -> str | None:
    """The nearest of those that passed the gate and keep to the size; of equally near ones the smallest."""
    able = [c for c in tried if c.status == "measured" and c.within]
    return min(able, key=lambda c: (c.kl, c.bytes, c.recipe)).recipe if able else None


def concluded(
    release: Release,
    precision: Precision,
    tools: Tools,
    wanted: Sequence[Recipe],
    tried: Sequence[Candidate],
    rule: Rule,
) -> Evidence:
    """The evidence and the choice, from how each of the `wanted` recipes ended."""
    rows = marked(tried, rule)
    chosen = choose(rows)
    return Evidence(
        source=release.repo,
        source_sha=release.sha,
        backend=wanted[0].backend,
        precision=precision,
        made_with=tools,
        rule=rule,
        candidates=rows,
        chosen=chosen,
        recipe=next((recipe for recipe in wanted if recipe.id == chosen), None),
    )


def picture(evidence: Evidence) -> bytes:
    """A PNG of size against KL, with the front and the choice."""
    model = evidence.source.rpartition("/")[2]
    against = " or ".join(sorted({AGAINST[c.against] for c in evidence.candidates if c.kl is not None}))
    title = f"{model}, {evidence.backend} {evidence.precision}: size against distance to {against or 'the source'}"
    return plot.picture(plot.plain(title, 100), _marks(evidence.candidates, evidence.chosen))


def table(evidence: Evidence, name: str) -> str:
    """The chosen recipe, to be pasted into the backend's `recipes.toml`. `name` is the file with the evidence."""
    found, recipe = evidence.choice, evidence.recipe
    if found is None or recipe is None:
        return ""
    against = AGAINST[found.against]
    lines = (
        f"Chosen by `phimill tune {evidence.source}@{evidence.source_sha[:12]} --backend {evidence.backend} "
        f"--precision {evidence.precision}`.",
        f"{words.size(found.bytes)}, {found.bits_per_weight:.2f} bits per weight, mean KL {words.nats(found.kl)} "
        f"to {against}. Evidence: {name}",
        evidence.rule.text,
    )
    return "".join(f"# {line}\n" for line in lines) + candidates.as_toml(recipe, recipes.backends()[evidence.backend])


def _marks(tried: Sequence[Candidate], chosen: str | None = None) -> list[plot.Mark]:
    """What is drawn: all that passed the gate. Presets are for the backend's own recipes, which people know."""
    return [
        plot.Mark(c.name, "chosen" if c.recipe == chosen else c.preset if c.own else "ladder", c.bytes or 0, c.kl)
        for c in tried
        if c.status == "measured" and c.kl is not None
    ]
