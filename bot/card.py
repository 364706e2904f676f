"""The model card: written from typed fields alone, and read back by the planner.

The card's YAML is dumped from plain data and its body is rendered with every value escaped
(`bot.templates.filters`), so nothing in a source repo can add a key, a link or a tag to what we publish.
Never copied from the source: its body, `model-index` (benchmarks of another artifact), `new_version`,
`widget`.

`parse` and `summary_from_card_data` are the way back: a card is untrusted, even one in a repo of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import yaml
from jinja2 import Template
from pydantic import ValidationError

from bot import front_matter
from bot.fidelity import stop_note, weights_note
from bot.fitting import DEFAULT_CONTEXT, by_device
from bot.logs import get_logger
from bot.models import Precision
from bot.publication import (
    PLOT_PATH,
    RECEIPT_PATH,
    SCHEMA,
    SIGNATURE_PATH,
    STATEMENT_PATH,
    Publication,
    PublishedVariant,
    Summary,
)
from bot.receipt import version_order
from bot.snippets import fill, names
from bot.templates.filters import environment

log = get_logger(__name__)

BLOCK = "phimill"
HUB = "https://huggingface.co"
MAX_FRONT_MATTER = 256 * 1024
SAMPLE_CHARACTERS = 400
# How anybody checks a download, with the tool of the standard itself. It needs pyopenssl, and does not ask for it.
CHECK_SIGNATURE = f"""\
hf download {{repo}} --revision {{tag}} --local-dir model
pip install model-signing pyopenssl
model_signing verify key model --signature model/{SIGNATURE_PATH} --public_key signing.pub"""
CHECK_REMOTELY = "phimill verify {repo}@{tag} --key signing.pub"

# What the Hub lists as licences and Phi releases have used; anything else must be declared as "other".
_LICENSES = frozenset({"mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "openrail", "unknown"})
_BY_SIZE = (Precision.INT4, Precision.INT8, Precision.FP16, Precision.FP32, Precision.OTHER)
_LICENSE_FILE = re.compile(r"LICEN[CS]E(\.(md|txt))?", re.IGNORECASE)
_LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual|code")
_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class SnippetInfo(Protocol):
    """One way to run the model.

    `code` may hold {repo}, {ns} (its owner), {m} (the source's name), {tag} (what to pin), {context} (tokens,
    at most the original context) and, of the variant to start with, {file}, {folder} (where the file lies) and {quant}
    (Q4_K_M of m-Q4_K_M.gguf). `install` is what to do first in an empty environment.
    """

    @property
    def title(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def install(self) -> str: ...


class BackendInfo(Protocol):
    """What the card says about a backend."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def library_name(self) -> str: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def snippets(self) -> Sequence[SnippetInfo]: ...


def render(publication: Publication, backend: BackendInfo, *, hub: str = HUB) -> str:
    """The whole README.md. Equal publications give equal bytes. `hub` is where the links of the card lead."""
    front = yaml.safe_dump(_front_matter(publication, backend, hub), sort_keys=False, width=10_000)
    tag = publication.version if publication.complete else "main"
    pick = choose(publication)
    values = _values(publication)
    body = _template().render(
        p=publication,
        backend=backend,
        source_url=f"{hub}/{publication.source}",
        tag=tag,
        last_tag=last_tag(publication),
        pick=pick,
        finer=_finer(publication, pick),
        variants=sorted(publication.variants, key=lambda v: (-v.bytes, v.recipe)),
        versions=sorted(publication.versions.items(), key=lambda item: version_order(item[0]), reverse=True),
        runtime_differs=_runtime_differs(publication),
        devices=by_device(publication, _context(publication)),
        context=_context(publication),
        snippets=pull(publication, backend),
        by_hand=lambda v: fill("\n".join(v.by_hand), {**values, "base": str(v.facts.get("base", "f32"))}),
        stop_note=stop_note,
        weights_note=weights_note,
        sample_characters=SAMPLE_CHARACTERS,
        check_signature=fill(CHECK_SIGNATURE, values),
        check_remotely=fill(CHECK_REMOTELY, values),
        plot=PLOT_PATH,
        signature=SIGNATURE_PATH,
        receipt=RECEIPT_PATH,
        statement=STATEMENT_PATH,
    )
    return f"---\n{front}---\n\n{body}"


def pull(publication: Publication, backend: BackendInfo) -> list[tuple[str, str, str, str]]:
    """The ways to run it: title, language, what to install first, and the code for the variant to start with."""
    values = _values(publication)
    return [(s.title, s.language, s.install, fill(s.code, values)) for s in backend.snippets]


def _values(publication: Publication) -> dict[str, str]:
    pick = choose(publication)
    return names(
        repo=publication.repo,
        source=publication.source,
        tag=publication.version if publication.complete else "main",
        file=pick.files[0].path if pick and pick.files else "",
        context=_context(publication),
    )


def choose(publication: Publication) -> PublishedVariant | None:
    """The variant to start with: of the smallest recommended precision the nearest to the source."""
    pool = [v for v in publication.variants if v.preset == "recommended"] or publication.variants
    return min(
        pool,
        key=lambda v: (_BY_SIZE.index(v.precision), v.fidelity.kl_mean, v.bytes, v.recipe),
        default=None,
    )


def last_tag(publication: Publication) -> str | None:
    """The newest version that is a finished tag."""
    tags = {*publication.versions, publication.version}
    return max(tags if publication.complete else tags - {publication.version}, key=version_order, default=None)


def parse(card_text: str) -> Summary | None:
    """Read our block from a card. None when there is none, or when it cannot be read (logged)."""
    # Searched in a bounded prefix: a card is somebody else's bytes.
    match = _FRONT_MATTER.match(card_text[:MAX_FRONT_MATTER])
    if match is None:
        return None
    try:
        data = front_matter.load(match[1])
    except front_matter.Unreadable as exc:
        log.warning("A card's front matter is not readable YAML.", error=str(exc))
        return None
    return summary_from_card_data(data) if isinstance(data, dict) else None


def summary_from_card_data(data: Mapping[str, Any]) -> Summary | None:
    """Read our block from front matter that is already data, as `list_models(cardData=True)` gives it."""
    block = data.get(BLOCK)
    if block is None:
        return None
    schema = block.get("schema_version") if isinstance(block, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        log.warning("A card's block has a newer schema.", block=BLOCK, schema=schema, known=SCHEMA)
        return None
    try:
        return Summary.model_validate(block)
    except (ValidationError, RecursionError) as exc:
        count = exc.error_count() if isinstance(exc, ValidationError) else 1
        log.warning("A card's block is malformed.", block=BLOCK, errors=count)
        return None


def _front_matter(publication: Publication, backend: BackendInfo, hub: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "base_model": publication.source,
        "base_model_relation": "quantized",
        "library_name": backend.library_name,
        "pipeline_tag": "text-generation",
        **_license(publication, hub),
    }
    # YAML 1.1 reads a bare `no` as false; safe_dump quotes it, and what is no language code is left out.
    language = [code for code in publication.language if _LANGUAGE.fullmatch(code)]
    if language:
        data["language"] = language
    data["tags"] = list(dict.fromkeys([*backend.tags, "phi", "phimill"]))
    data[BLOCK] = _sorted(publication.summary().model_dump(mode="json"))
    return data


def _license(publication: Publication, hub: str) -> dict[str, str]:
    if not publication.license:
        return {}
    name = publication.license.strip().lower()
    found = {"license": name} if name in _LICENSES else {"license": "other", "license_name": name}
    link = publication.license_link or ""
    if _LICENSE_FILE.fullmatch(link):
        # Relative to the source, where the file is; not to our repo.
        link = f"{hub}/{publication.source}/blob/{publication.source_sha}/{link}"
    if re.fullmatch(r"https?://[^\s<>\"]+", link):
        found["license_link"] = link
    return found


def _sorted(value: Any) -> Any:
    """The same plain data with the keys of every mapping in order."""
    return {k: _sorted(value[k]) for k in sorted(value)} if isinstance(value, dict) else value


def _finer(publication: Publication, pick: PublishedVariant | None) -> PublishedVariant | None:
    """What to take with memory to spare: the INT8 variant nearest to the source, if nearer than the pick."""
    int8 = [v for v in publication.variants if v.precision is Precision.INT8 and v is not pick]
    best = min(int8, key=lambda v: (v.fidelity.kl_mean, v.bytes, v.recipe), default=None)
    return best if best and pick and best.fidelity.kl_mean < pick.fidelity.kl_mean else None


def _runtime_differs(publication: Publication) -> bool:
    """Whether most of some variant's distance to the source is the runtime's and not the quantization's."""
    pairs = [(v.fidelity.kl_mean, v.fidelity.baseline_kl_mean) for v in publication.variants]
    return any(own is not None and total > 1e-3 and total > 2 * own for total, own in pairs)


def _context(publication: Publication) -> int:
    """The tokens of context that the card speaks of: no more than the model was first trained for."""
    longest = publication.traits.context if publication.traits else DEFAULT_CONTEXT
    return min(publication.original_context or DEFAULT_CONTEXT, longest, DEFAULT_CONTEXT)


@lru_cache(maxsize=1)
def _template() -> Template:
    return environment().get_template("card.md.j2")
