"""Puts the mill onto a Hugging Face Space, and keeps what stands there as it should be.

The Space itself is the only record of what was deployed: each time it is compared with what is wanted, and only what
differs is changed. A secret cannot be read back, so a salted digest of it is kept in its description, which only
those see who may change it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as randomness
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.utils.sha import git_hash

from bot import VERSION, hub_http
from bot.errors import HubError, NotOurs, RepoUnavailable, UsageError
from bot.hub_errors import translated
from bot.models import Frozen
from bot.space_wish import FREE_HARDWARE, Wish

CHECKOUT = Path(__file__).parents[1]
# What a Space is made of: a file of ours by its place there. Of the folders, everything.
FILES = {
    "README.md": "space/README.md",
    "requirements.txt": "space/requirements.txt",
    "packages.txt": "space/packages.txt",
    "app.py": "app.py",
    "LICENSE": "LICENSE",
}
FOLDERS = ("bot", "converters")
SIGN = "bot/mill.py"  # a Space that has this is one of ours


class Deployment(Frozen):
    """What was changed, or with `dry_run` would have been, one sentence each; nothing if all was right."""

    space: str
    url: str
    dry_run: bool
    changes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """What the Space is now. `sha` is None when there is none."""

    sha: str | None = None
    private: bool = False
    hardware: str = FREE_HARDWARE
    sleep: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


Change = tuple[str, Callable[[], object]]


def deploy(api: HfApi, wish: Wish, *, dry_run: bool = False, checkout: Path = CHECKOUT) -> Deployment:
    """Make the Space what `wish` says, with the code of `checkout`. The code comes last, so that it starts once all
    else is there.

    Raises:
        UsageError: `checkout` is no checkout of phimill, or the wish cannot be.
        NotOurs: something else stands in that Space.
        HubError: the Hub cannot be reached, or said no.
    """
    files = space_files(checkout)
    with translated(wish.space):
        there = look(api, wish.space)
        if there.files and SIGN not in there.files and set(there.files) - {".gitattributes", "README.md"}:
            raise NotOurs(f"{wish.space} holds another app.", "Deploy to a Space of another name.")
        changes = [*_about(api, wish, there), *_files(api, wish.space, there, files)]
        for _, apply in () if dry_run else changes:
            apply()
    return Deployment(
        space=wish.space,
        url=f"{api.endpoint}/spaces/{wish.space}",
        dry_run=dry_run,
        changes=tuple(said for said, _ in changes),
        notes=tuple(_notes(wish, there)),
    )


def space_files(checkout: Path) -> dict[str, bytes]:
    """Every file of a Space, by its path there.

    Raises:
        UsageError: a file is missing.
    """
    found = {there: checkout / here for there, here in FILES.items()}
    for folder in FOLDERS:
        for path in sorted((checkout / folder).rglob("*")):
            inside = path.relative_to(checkout)
            if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in inside.parts):
                found[inside.as_posix()] = path
    try:
        return {there: path.read_bytes() for there, path in found.items()}
    except FileNotFoundError as error:
        raise UsageError(
            f"{checkout} is not a checkout of phimill: it has no {Path(str(error.filename)).name}.",
            "Clone phimill's repository, and deploy from there.",
        ) from error


def look(api: HfApi, space: str) -> Standing:
    """What stands in the Space now, as far as its owner may see."""
    try:
        with translated(space):
            info = api.space_info(space, timeout=hub_http.SILENCE_SECONDS)
    except RepoUnavailable:
        return Standing()
    if info.sha is None:
        raise HubError(f"The Hub does not say which commit {space} is at.")
    runtime = api.get_space_runtime(space)
    tree = api.list_repo_tree(space, recursive=True, repo_type="space", revision=info.sha)
    return Standing(
        sha=info.sha,
        private=bool(info.private),
        hardware=str(runtime.requested_hardware or runtime.hardware or FREE_HARDWARE),
        sleep=runtime.sleep_time,
        files={entry.path: entry.blob_id for entry in tree if isinstance(entry, RepoFile)},
        secrets={key: found.description for key, found in api.get_space_secrets(space).items()},
        variables={key: found.value for key, found in api.get_space_variables(space).items()},
    )


def _about(api: HfApi, wish: Wish, there: Standing) -> Iterator[Change]:
    """What differs around the code."""
    space, private = wish.space, bool(wish.private)
    if there.sha is None:
        kind = "private" if private else "public"
        yield (
            f"Make the {kind} Space.",
            lambda: api.create_repo(space, repo_type="space", space_sdk="gradio", private=private),
        )
    elif wish.private not in (None, there.private):
        yield (
            f"Make the Space {'private' if private else 'public'}.",
            lambda: api.update_repo_settings(space, repo_type="space", private=private),
        )
    own_namespace = {} if "PHIMILL_NAMESPACE" in there.variables else {"PHIMILL_NAMESPACE": space.split("/")[0]}
    for name, value in (own_namespace | dict(wish.variables)).items():
        if there.variables.get(name) != value:
            yield f"Set the variable {name}.", partial(api.add_space_variable, space, name, value)
    for name, secret in wish.secrets.items():
        text = secret.get_secret_value()
        if not _is_of(there.secrets.get(name), text):
            put = partial(api.add_space_secret, space, name, text, description=_digest_of(text))
            yield f"Set the secret {name}.", put
    yield from _machine(api, wish, there)


def _machine(api: HfApi, wish: Wish, there: Standing) -> Iterator[Change]:
    space, hardware, sleep = wish.space, wish.hardware or there.hardware, wish.sleep
    if sleep is not None and hardware == FREE_HARDWARE:
        raise UsageError(
            f"On {FREE_HARDWARE} a Space always sleeps after 48 hours.",
            "Choose other --hardware, or leave --sleep out.",
        )
    moved = hardware != there.hardware
    if moved:
        yield f"Move it to {hardware}.", lambda: api.request_space_hardware(space, hardware)  # type: ignore[arg-type]
    if sleep is not None and (moved or sleep != there.sleep):
        after = "never" if sleep < 0 else f"after {sleep} idle seconds"
        yield f"Let it sleep {after}.", lambda: api.set_space_sleep_time(space, sleep)


def _files(api: HfApi, space: str, there: Standing, files: Mapping[str, bytes]) -> Iterator[Change]:
    """The one commit that brings the code up to date. Files that somebody else put there stay."""
    new = [path for path, data in files.items() if there.files.get(path) != git_hash(data)]
    gone = [path for path in there.files if path.startswith(tuple(f"{f}/" for f in FOLDERS)) and path not in files]
    if not new and not gone:
        return
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=files[path]) for path in new),
        *(CommitOperationDelete(path_in_repo=path) for path in gone),
    ]

    def commit() -> object:
        title = f"phimill {VERSION}"
        return api.create_commit(space, operations, commit_message=title, repo_type="space", parent_commit=there.sha)

    yield f"Commit {len(new)} new or changed files, and delete {len(gone)}.", commit


def _notes(wish: Wish, there: Standing) -> Iterator[str]:
    names = {*wish.secrets, *there.secrets}
    if "HF_TOKEN" not in names:
        yield "It has no secret HF_TOKEN: it publishes for people who sign in, and nothing by itself."
    if "PHIMILL_WEBHOOK_SECRET" not in names:
        yield "It has no secret PHIMILL_WEBHOOK_SECRET: no webhook can wake it."


def _digest_of(text: str, salt: bytes | None = None) -> str:
    """What is written beside a secret. Slow on purpose: nobody shall find a short secret by trying."""
    salt = salt or randomness.token_bytes(8)
    digest = hashlib.scrypt(text.encode(), salt=salt, n=2**14, r=8, p=1, dklen=16)
    return f"Set by phimill. {salt.hex()}:{digest.hex()}"


def _is_of(description: str | None, text: str) -> bool:
    """Whether a secret's description is that of this text."""
    salt = (description or "").rpartition(" ")[2].partition(":")[0]
    try:
        return hmac.compare_digest(_digest_of(text, bytes.fromhex(salt) or b"?"), description or "")
    except (ValueError, TypeError):  # somebody else's description
        return False
