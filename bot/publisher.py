"""Writing to the Hub: the only module that does it, and the only one that holds a token to write with.

Every effect looks first, so that doing it twice is doing it once. A commit names the head it was made for
(`parent_commit`); when somebody else was faster, the head is read again and everything is decided again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import stamina
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from bot import ledger, receipt
from bot.accounts import account_of
from bot.documents import documents
from bot.errors import AccessDenied, HubError, NotOurs, RepoUnavailable, UsageError
from bot.hub import Hub
from bot.hub_errors import retry_after, translated, uploading
from bot.models import Frozen, RepoRef, SourceFile
from bot.publication import (
    RECEIPT_PATH,
    SIGNATURE_PATH,
    Declined,
    Publication,
    PublishedVariant,
)
from bot.recipes import Backend
from bot.signing import Signer

ATTEMPTS = 5
# hf_xet remembers where it has sent each chunk of about 64 KiB, so that none is sent twice: some 30 bytes of memory
# each. These are 64 GiB of uploads in 30 MiB; what it remembers by itself, 64 times as many, would be 2 GiB.
CHUNKS_REMEMBERED = 2**20
# What a repo may hold that nobody put there: the Hub makes these itself when a repo is created.
_BIRTH_FILES = frozenset({".gitattributes"})
Change = Callable[[Publication | None], Publication]
# For effects that look first: a Hub that is busy for a moment costs a wait and not the build.
_patiently = stamina.retry(on=retry_after, attempts=ATTEMPTS, timeout=None, wait_initial=0.5)


class Head(Frozen):
    """Where a target repo stands: its newest commit, and what our receipt at that commit says. `files` is what it
    holds.
    """

    sha: str | None
    publication: Publication | None
    files: tuple[SourceFile, ...] = ()


class Publisher:
    """Publishes into repos of one account. `token` is asked for on every use and kept nowhere. With a `signer`, every
    commit is signed.
    """

    def __init__(self, hub: Hub, token: Callable[[], str | None], signer: Signer | None = None) -> None:
        self._hub = hub
        self._token = token
        self.signer = signer
        disable_progress_bars()
        os.environ.setdefault("HF_XET_SHARD_CHUNK_INDEX_TABLE_MAX_SIZE", str(CHUNKS_REMEMBERED))

    def _api(self) -> HfApi:
        token = self._token()
        if not token:
            raise AccessDenied("There is no token to publish with.", "Set HF_TOKEN, or run `hf auth login`.")
        return HfApi(endpoint=self._hub.endpoint, token=token)

    def account(self) -> str:
        """The name that the token belongs to."""
        with translated("the token"):
            return str(self._api().whoami()["name"])

    @_patiently
    def check_may_write(self, namespace: str) -> None:
        """Make sure, before any work, that the token may create repos in `namespace`, and that they can be signed.

        Raises:
            AccessDenied: it may not.
            KeyUnusable: they cannot.
        """
        if self.signer is not None:
            self.signer.check()
        with translated("the token"):
            writable = account_of(self._api().whoami()).writable
        if not writable:
            raise AccessDenied("The token may only read.", "Make one with write rights in the Hub's settings.")
        if namespace not in writable:
            raise AccessDenied(f"The token may not publish to {namespace}.", f"It may: {', '.join(sorted(writable))}.")

    @_patiently
    def check_may_change(self, repo: str) -> None:
        """Make sure, before any work, that the token may write to `repo`, if that exists: a person may have allowed us
        to make repos, and not to touch the others.

        Raises:
            AccessDenied: it may not.
        """
        try:
            self._hub.resolve(RepoRef(repo=repo))
        except RepoUnavailable:
            return
        with translated(repo):
            self._api().auth_check(repo, write=True)

    def check_private(self, repo: str) -> None:
        """Make sure that `repo`, if it exists, is not open to everybody.

        Raises:
            UsageError: it is.
        """
        try:
            standing = self._hub.look(RepoRef(repo=repo))
        except RepoUnavailable:
            return
        if not standing.private:
            raise UsageError(
                f"{repo} exists and is public.", "Make it private on the Hub first, or publish to another namespace."
            )

    def head(self, repo: str) -> Head:
        """Where `repo` stands now. A repo that does not exist yet has no sha.

        Raises:
            NotOurs: it holds files and was not made by phimill.
        """
        try:
            sha = self._hub.resolve(RepoRef(repo=repo))
        except RepoUnavailable:
            return Head(sha=None, publication=None)
        files = self._hub.tree(repo, sha)
        publication = self._state_at(repo, sha, files)
        if publication is None and {f.path for f in files} - _BIRTH_FILES:
            raise NotOurs(
                f"{repo} already exists and was not made by phimill.",
                "Publish to another namespace, or rename it.",
            )
        return Head(sha=sha, publication=publication, files=files)

    def publish(
        self, backend: Backend, fresh: Publication, variant: PublishedVariant, folder: Path, *, last: bool
    ) -> Publication:
        """Commit one variant, whose files lie in `folder`, with the card and receipt that follow from it.

        With `last` the commit also completes the version. Returns the state of the repo afterwards.
        """

        def change(head: Publication | None) -> Publication:
            state = ledger.add(ledger.begin(head, fresh), variant)
            return ledger.close(state) if last else state

        def done(head: Publication | None) -> bool:
            there = ledger.stands(head, variant.recipe, variant.recipe_digest, variant.made_from)
            return there is not None and there.files == variant.files and there.toolchain == variant.toolchain

        files = {f.path: folder / f.path for f in (*variant.files, *variant.extras)}
        title = f"Add {variant.title} ({variant.recipe})"
        return self._commit(backend, fresh.repo, title, change, done, files)

    def complete(self, backend: Backend, fresh: Publication, declined: Sequence[Declined]) -> Publication | None:
        """Complete the version, saying on the card why a recipe is not in it. None if nothing stands in the repo.

        No commit when the last variant's own commit completed it and nothing was declined since.
        """
        if self.head(fresh.repo).publication is None:
            return None

        def change(head: Publication | None) -> Publication:
            if head is None:
                raise RepoUnavailable(f"{fresh.repo} has gone.", "Run the conversion again.")
            return ledger.settle(head, fresh, declined)

        return self._commit(backend, fresh.repo, f"Complete {fresh.version}", change, lambda _: False, {})

    def refresh(self, backend: Backend, fresh: Publication) -> Publication:
        """Bring the card to a newer source commit that changed no artifact."""

        def change(head: Publication | None) -> Publication:
            if head is None:
                raise RepoUnavailable(f"{fresh.repo} has gone.", "Run the conversion again.")
            return ledger.refresh(head, fresh)

        return self._commit(backend, fresh.repo, "Update the card", change, lambda _: False, {})

    def _commit(
        self,
        backend: Backend,
        repo: str,
        title: str,
        change: Change,
        done: Callable[[Publication | None], bool],
        files: Mapping[str, Path],
    ) -> Publication:
        for attempt in stamina.retry_context(on=retry_after, attempts=ATTEMPTS, timeout=None, wait_initial=0.5):
            with attempt:
                head = self.head(repo)
                if head.publication is not None and done(head.publication):
                    return head.publication
                state = change(head.publication)
                if state == head.publication:
                    return state
                state = state.model_copy(update={"signer": self.signer.fingerprint if self.signer else None})
                self._write(backend, repo, title, head, state, files)
                return state
        raise AssertionError("stamina either returns or raises")

    def _write(
        self, backend: Backend, repo: str, title: str, head: Head, state: Publication, files: Mapping[str, Path]
    ) -> None:
        beside = documents(backend, state, self._hub.endpoint)
        gone = ledger.gone(head.publication, state)
        if self.signer is not None:
            beside[SIGNATURE_PATH] = self.signer.sign(repo, self._digests(head, state, files, beside))
        elif SIGNATURE_PATH in {f.path for f in head.files}:
            gone.append(SIGNATURE_PATH)  # it covers what stood before
        api = self._api()
        parent = head.sha
        if parent is None:
            with translated(repo):
                api.create_repo(repo, exist_ok=True, private=state.private)
                parent = api.model_info(repo).sha
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, source) for path, source in files.items()),
            *(CommitOperationAdd(path, data) for path, data in beside.items()),
            *(CommitOperationDelete(path) for path in gone),
        ]
        with uploading(repo):
            api.create_commit(repo, operations, commit_message=title, parent_commit=parent)

    def _digests(
        self, head: Head, state: Publication, files: Mapping[str, Path], beside: Mapping[str, bytes]
    ) -> dict[str, str]:
        """The SHA-256 of every file that phimill has in the repo after a commit. Weights are not read again."""
        found = receipt.standing(state) | {path: hashlib.sha256(data).hexdigest() for path, data in beside.items()}
        for path in (path for path, digest in found.items() if not digest):
            found[path] = self._digest_of_shared(state.repo, head, path, files.get(path))
        return found

    def _digest_of_shared(self, repo: str, head: Head, path: str, uploaded: Path | None) -> str:
        """The SHA-256 of a small file that variants of one version share and made with different bytes."""
        if uploaded is not None:
            return hashlib.sha256(uploaded.read_bytes()).hexdigest()
        listed = {f.path: f.digest for f in head.files}.get(path, "")
        if len(listed) == 64:
            return listed
        return hashlib.sha256(self._hub.read_bytes(repo, str(head.sha), path, 2**26)).hexdigest()

    @_patiently
    def tag(self, repo: str, version: str) -> None:
        """Put a version's tag on its last commit, wherever the head is by now. Never moves a tag."""
        if version in self.tags(repo):
            return
        api = self._api()
        with translated(repo):
            commits = [commit.commit_id for commit in api.list_repo_commits(repo)]
        for sha in commits:  # newest first
            state = self._state_at(repo, sha, self._hub.tree(repo, sha))
            if state is not None and state.complete and state.version == version:
                with translated(repo):
                    api.create_tag(repo, tag=version, revision=sha, exist_ok=True)
                return
        raise HubError(f"{repo} has no commit that completes {version}.", "Look at its history.")

    def untagged(self, state: Publication) -> tuple[str, ...]:
        """The complete versions of a repo that have no tag, because what made them ended just before."""
        there = self.tags(state.repo)
        return tuple(version for version in state.versions if version not in there)

    def _state_at(self, repo: str, sha: str, files: Sequence[SourceFile]) -> Publication | None:
        if RECEIPT_PATH not in {f.path for f in files}:
            return None
        return receipt.read_receipt(self._hub.read_bytes(repo, sha, RECEIPT_PATH, 2**26))

    @_patiently
    def tags(self, repo: str) -> tuple[str, ...]:
        """The names of a repo's tags."""
        with translated(repo):
            return tuple(t.name for t in self._api().list_repo_refs(repo).tags)

    @_patiently
    def collect(self, publication: Publication) -> None:
        """Put the repo into its release's collection, which is made if it is not there."""
        api, namespace = self._api(), publication.repo.split("/")[0]
        name = publication.source.split("/")[1]
        with translated(publication.repo):
            found = api.create_collection(
                f"{name}, converted"[:60],
                namespace=namespace,
                description=f"Conversions of {name}"[:150],
                exists_ok=True,
            )
            if all(item.item_id != publication.repo for item in found.items):
                api.add_collection_item(found.slug, publication.repo, "model", exists_ok=True)
