"""Which pre-tokenizer a BPE tokenizer has, found as llama.cpp finds it: by what a probe text becomes.

A tokenizer.json is a program of sorts: regular expressions, normalisers, and as many megabytes as its author
likes. So it is loaded by a sandboxed child with little memory and little time.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from bot import sandbox
from bot.errors import ConverterStopped, SourceCorrupt
from bot.hub import Hub
from bot.models import Frozen, Release
from bot.settings import GIB, Settings

PROBE = Path(__file__).with_name("tokenizer_probe.py")
MAX_TOKENIZER = 64 * 1024**2  # bytes; Phi-4-mini's, the largest of the family, has 15 MB
MEMORY = 2 * GIB
SECONDS = 60.0
LONGEST_ANSWER = 256 * 1024


class Probed(Frozen):
    """What became of the probe text, as llama.cpp hashes it, and the highest token id of the vocabulary."""

    sha256: str
    highest: int


def probe(release: Release, text: str, hub: Hub, settings: Settings) -> Probed:
    """Tokenize `text` with the release's tokenizer.json.

    Raises:
        SourceCorrupt: it is too large, or cannot be loaded within small limits.
        HubError: it could not be read.
    """
    data = hub.read_bytes(release.repo, release.sha, "tokenizer.json", MAX_TOKENIZER)
    with tempfile.TemporaryDirectory(prefix="phimill-") as name:
        work = Path(name)
        tokenizer = work / "in" / "tokenizer.json"
        tokenizer.parent.mkdir()
        tokenizer.write_bytes(data)
        answer = _ask(tokenizer, text, work, settings)
    try:
        ids, highest = answer["ids"], answer["highest"]
        if not isinstance(ids, list) or not all(type(i) is int for i in [*ids, highest]):
            raise ValueError("not token ids")
    except (KeyError, TypeError, ValueError) as error:
        raise SourceCorrupt(f"{release.repo}: tokenizer.json gives no token ids.") from error
    return Probed(sha256=hashlib.sha256(str(ids).encode()).hexdigest(), highest=highest)


def _ask(tokenizer: Path, text: str, work: Path, settings: Settings) -> dict[str, object]:
    lines: list[str] = []
    try:
        outcome = sandbox.run(
            [sys.executable, "-P", str(PROBE)],
            stdin=json.dumps({"tokenizer": str(tokenizer), "text": text}).encode(),
            read=[tokenizer.parent, PROBE],
            write=[],
            work=work,
            limits=sandbox.Limits(memory=MEMORY, wall=SECONDS, file_size=1024**2, output=LONGEST_ANSWER),
            on_line=lines.append,
            on_log=lambda _: None,
            strict=settings.sandbox == "strict",
        )
    except ConverterStopped as error:
        raise SourceCorrupt(f"tokenizer.json was given up on: {error.message}") from error
    if outcome.returncode != 0 or len(lines) != 1:
        raise SourceCorrupt("tokenizer.json cannot be loaded by the tokenizers library.")
    try:
        answer = json.loads(lines[0])
    except (ValueError, RecursionError):
        answer = None
    return answer if isinstance(answer, dict) else {}
