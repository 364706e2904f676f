"""Checks a published repo: every byte of it, and that receipt, statement, card and source agree. Publishes nothing.

Needs no token for a public repo, and believes nothing that the Hub says about its files but their names: the bytes
themselves are read and hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import stamina

from bot import agreement, card_check, recipes
from bot import receipt as receipts
from bot.agreement import Finding, differs
from bot.errors import AccessDenied, GatedSource, InvalidRepoId, NotOurs, RepoUnavailable
from bot.hub import Hub
from bot.hub_errors import retry_after
from bot.models import ArtifactFile, Frozen, RepoRef, SourceFile
from bot.publication import CARD_PATH, RECEIPT_PATH, SIGNATURE_PATH, STATEMENT_PATH, Publication
from bot.signature import Verifier, signed_by

ATTEMPTS = 4
MAX_DOCUMENT = 64 * 1024**2  # as the publisher reads a receipt

Progress = Callable[[str, int, int], None]


class Published(NamedTuple):
    """A repo of ours at one commit. Without `publication` its receipt is there and cannot be read."""

    repo: str
    revision: str
    sha: str
    files: tuple[SourceFile, ...]
    publication: Publication | None
    unreadable: str = ""


class Rebuilt(Frozen):
    """How the rebuild of one variant ended. What differs, or why there is none, is among the findings."""

    recipe: str
    status: Literal["identical", "differs", "not_rebuilt"]
    source_sha: str
    files: int


class Measured(Frozen):
    """How measuring one variant again ended: its mean KL in nats, if there is one, and that of the receipt."""

    recipe: str
    status: Literal["same", "differs", "not_measured"]
    kl_mean: float | None
    recorded: float


class Checked(Frozen):
    """What is there, and what is wrong with it. `files` is how many were read, and `bytes` how much that was.
    `signer` is the fingerprint of the key that was shown to have signed all of it.
    """

    repo: str
    revision: str
    sha: str
    source: str | None
    source_sha: str | None
    files: int
    bytes: int
    findings: tuple[Finding, ...]
    rebuilt: tuple[Rebuilt, ...] = ()
    measured: tuple[Measured, ...] = ()
    signer: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; warnings may be left."""
        return all(finding.warning for finding in self.findings)


def published(hub: Hub, text: str) -> Published:
    """The repo at the tag, branch or commit that `text` names, or at its newest version.

    Raises:
        InvalidRepoId: `text` is no repo.
        NotOurs: it has no receipt, so phimill did not make it; or a newer phimill did.
        HubError: any other of its kinds.
    """
    ref = RepoRef.parse(text, hub.endpoint)
    revision = ref.revision or _newest(hub, ref.repo)
    sha = hub.resolve(RepoRef(repo=ref.repo, revision=revision))
    files = hub.tree(ref.repo, sha)
    if RECEIPT_PATH not in {file.path for file in files}:
        raise NotOurs(
            f"{ref.repo} has no {RECEIPT_PATH} at {revision}.", "Only what phimill published can be checked."
        )
    data = hub.read_bytes(ref.repo, sha, RECEIPT_PATH, MAX_DOCUMENT)
    try:
        return Published(ref.repo, revision, sha, files, receipts.read_receipt(data))
    except receipts.NewerReceipt:
        raise
    except NotOurs as error:
        return Published(ref.repo, revision, sha, files, None, error.message)


def verify(
    hub: Hub,
    there: Published,
    progress: Progress = lambda path, done, total: None,
    verifier: Verifier | None = None,
) -> Checked:
    """Read every file of a repo and compare all that is said about them. `progress` gets the file at hand, bytes done
    and bytes in all. With a `verifier`, its key must have signed all of it.

    Raises:
        SourceCorrupt: a document is larger than any that phimill writes.
        HubError: the Hub cannot be reached, or the repo changed hands meanwhile.
    """
    held = dict(_held(hub, there, progress))
    publication = there.publication
    findings = [*_of_listing(there, held)]
    if publication is None:
        findings.append(Finding(file=RECEIPT_PATH, what=there.unreadable.removeprefix(f"{RECEIPT_PATH} ")))
        findings += _against_statement(hub, there, held)
    else:
        findings += agreement.of_receipt(publication, there.repo, there.revision)
        findings += _of_documents(hub, there, publication, held)
        findings += of_source(hub, publication)
    unsigned = list(_of_signature(hub, there, held, verifier))
    return Checked(
        repo=there.repo,
        revision=there.revision,
        sha=there.sha,
        source=publication.source if publication else None,
        source_sha=publication.source_sha if publication else None,
        files=len(held),
        bytes=sum(file.size for file in held.values()),
        findings=tuple(dict.fromkeys([*findings, *unsigned])),
        signer=verifier.fingerprint if verifier and not unsigned else None,
    )


def of_source(hub: Hub, publication: Publication) -> Iterator[Finding]:
    """Whether the source commit still is what the receipt says. That it is gone is no fault of the repo."""
    place = f"{publication.source}@{publication.source_sha[:7]}"
    try:
        files = hub.tree(source_of(publication), publication.source_sha)
    except InvalidRepoId as error:
        yield Finding(file=RECEIPT_PATH, what=f"source: {error.message}")
        return
    except (RepoUnavailable, GatedSource, AccessDenied) as error:
        yield Finding(file=place, what=f"the source cannot be compared: {error.message}", warning=True)
        return
    listed, there = {f.path: f for f in publication.source_files}, {f.path: f for f in files}
    for path in sorted({*listed, *there}):
        ours, theirs = listed.get(path), there.get(path)
        if ours is None or theirs is None:
            sides = ("nothing", "a file") if ours is None else ("a file", "nothing")
            yield differs(f"{place}/{path}", f"{RECEIPT_PATH} and the source", *sides)
        elif ours != theirs:
            said = (f"{f.digest} ({f.size} bytes)" for f in (ours, theirs))
            yield differs(f"{place}/{path}", f"digest in {RECEIPT_PATH} and in the source", *said)


def source_of(publication: Publication) -> str:
    """The source's repo id: a receipt may hold any text.

    Raises:
        InvalidRepoId: it is none.
    """
    ref = RepoRef.parse(publication.source)
    if ref.repo != publication.source:
        raise InvalidRepoId(f"{publication.source!r} is not a repo id.", "Was the repo made by phimill?")
    return ref.repo


def _newest(hub: Hub, repo: str) -> str:
    """The newest version's tag; the branch where the first version is still being built."""
    tags = [tag for tag in hub.tags(repo) if receipts.version_order(tag)[0] >= 0]
    return max(tags, key=receipts.version_order, default="main")


def _held(hub: Hub, there: Published, progress: Progress) -> Iterator[tuple[str, ArtifactFile]]:
    total, done = sum(file.size for file in there.files), 0
    for file in there.files:
        before = done

        def told(size: int, path: str = file.path, before: int = before) -> None:
            progress(path, before + size, total)

        yield file.path, hashed(hub, there, file, told)
        done += file.size


def hashed(
    hub: Hub,
    there: Published,
    file: SourceFile,
    told: Callable[[int], None] = lambda size: None,
    write: Callable[[bytes], object] = lambda block: None,
) -> ArtifactFile:
    """Read a file, going on where a connection broke. Of one that is larger than the Hub lists, no more than shows it.

    Args:
        told: gets the bytes that were read so far.
        write: gets the bytes.

    Raises:
        HubError: it cannot be read.
    """
    sha256, size = hashlib.sha256(), 0
    for attempt in stamina.retry_context(on=retry_after, attempts=ATTEMPTS, timeout=None):
        with attempt, hub.stream(there.repo, there.sha, file.path, size) as blocks:
            for block in blocks:
                sha256.update(block)
                size += len(block)
                write(block)
                told(size)
                if size > file.size:
                    break
    return ArtifactFile(path=file.path, size=size, sha256=sha256.hexdigest())


def _of_listing(there: Published, held: dict[str, ArtifactFile]) -> Iterator[Finding]:
    """Where the Hub delivers other bytes than it lists."""
    for file in there.files:
        read = held[file.path]
        if file.size != read.size or (len(file.digest) == 64 and file.digest != read.sha256):
            listed = f"{file.size} bytes, {file.digest}"
            yield differs(file.path, "the Hub's listing", listed, f"{read.size} bytes, {read.sha256}")


def _of_documents(
    hub: Hub, there: Published, publication: Publication, held: dict[str, ArtifactFile]
) -> Iterator[Finding]:
    backend = recipes.backends().get(publication.backend)
    said = _document(hub, there, STATEMENT_PATH)
    subjects = agreement.subjects_of(agreement.read_statement(said or b""))
    yield from agreement.of_files(publication, subjects, held)
    if said is not None:
        yield from agreement.of_statement(publication, backend, said)
    if (text := _document(hub, there, CARD_PATH)) is not None:
        yield from card_check.of_card(publication, backend, text, hub.endpoint)


def _against_statement(hub: Hub, there: Published, held: dict[str, ArtifactFile]) -> Iterator[Finding]:
    """All that can be compared without a receipt."""
    said = _document(hub, there, STATEMENT_PATH)
    subjects = agreement.subjects_of(agreement.read_statement(said or b""))
    for path, file in sorted(held.items()):
        if path in subjects and subjects[path] != file.sha256:
            yield differs(path, f"SHA-256 in {STATEMENT_PATH}", subjects[path], file.sha256)


def _of_signature(
    hub: Hub, there: Published, held: dict[str, ArtifactFile], verifier: Verifier | None
) -> Iterator[Finding]:
    signature = _document(hub, there, SIGNATURE_PATH)
    if verifier is not None:
        yield from verifier.findings(signature, held)
    elif there.publication and there.publication.signer and signature is not None:
        claimed, named = there.publication.signer, signed_by(signature)
        if named != claimed:
            yield differs(SIGNATURE_PATH, f"fingerprint of the key in {RECEIPT_PATH}", claimed, named or "no key")
        what = f"not checked: --key FILE holds it against the public key whose fingerprint should be {claimed}"
        yield Finding(file=SIGNATURE_PATH, what=what, warning=True)


def _document(hub: Hub, there: Published, path: str) -> bytes | None:
    if path not in {file.path for file in there.files}:
        return None
    return hub.read_bytes(there.repo, there.sha, path, MAX_DOCUMENT)
