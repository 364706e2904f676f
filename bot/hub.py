"""Reading from the Hub: the only module that does it.

A thin wrapper around `huggingface_hub.HfApi` with three additions: every failure becomes one of
`bot.errors`, every request has a time limit (HfApi's listings have none), and requests are counted, so that
"an idle poll costs at most two calls" is something a test can look at.

A token is never picked up from the machine: `Hub(token=None)` is anonymous. It goes to the endpoint's own
host only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar

import httpx2 as httpx
import stamina
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.hf_api import ModelInfo, RepoFile
from pydantic import Field, SecretStr

from bot import filenames, hub_http
from bot.errors import RepoUnavailable, SourceCorrupt
from bot.hub_errors import retry_after, translated
from bot.models import Frozen, RepoRef, SourceFile

ATTEMPTS = 4
CACHE_BYTES = 64 * 1024**2
BLOCK = 1024 * 1024
SUMMARY_FIELDS = ("sha", "lastModified", "config", "cardData", "tags", "gated", "private", "library_name")

T = TypeVar("T")


class RepoSummary(Frozen):
    """What one listing says about a repo. All of it is untrusted text."""

    repo: str
    sha: str
    last_modified: datetime | None = None
    architectures: tuple[str, ...] = ()
    model_type: str = ""
    quantized: bool = False
    tags: tuple[str, ...] = ()
    card: dict[str, Any] = Field(default_factory=dict)
    gated: bool = False
    private: bool = False


class Standing(Frozen):
    """A repo's commit at one moment, and who may see it."""

    sha: str
    private: bool = False
    gated: bool = False


class Hub:
    """The Hub at `endpoint`, as one account sees it (`token=None`: as nobody).

    A `token` that can be called is asked for at every request. Text and ranges read at a commit sha never change, so
    the last 64 MiB of them are kept in memory.

    Attributes:
        calls: `METHOD path` of the last thousand requests, redirects included.
        bytes_read: body bytes of files so far; listings not included.
    """

    def __init__(
        self, endpoint: str | None = None, token: str | SecretStr | Callable[[], str | None] | None = None
    ) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._given = token
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = Lock()
        self.calls: deque[str] = deque(maxlen=1000)
        self.bytes_read = 0

    def __repr__(self) -> str:
        return f"Hub({self.endpoint!r}, {'with a token' if self._given else 'anonymous'})"

    @property
    def _token(self) -> str | bool:
        if callable(self._given):
            return self._given() or False
        return (self._given.get_secret_value() if isinstance(self._given, SecretStr) else self._given) or False

    @property
    def _api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint, token=self._token)

    def resolve(self, ref: RepoRef) -> str:
        """The commit sha that `ref` stands for now. Raises as `look`."""
        return self.look(ref).sha

    def look(self, ref: RepoRef) -> Standing:
        """The commit that `ref` stands for now, and who may see it. One call.

        A repo that was renamed or given away is not followed: its name said whose it is.

        Raises:
            RepoUnavailable, GatedSource, AccessDenied, HubUnreachable
        """
        info = self._call(
            str(ref),
            lambda: self._api.model_info(ref.repo, revision=ref.revision, timeout=hub_http.SILENCE_SECONDS),
        )
        if str(info.id).lower() != ref.repo.lower():
            raise RepoUnavailable(f"{ref.repo} is {str(info.id)[:200]!r} now.", "Ask for that one if it is meant.")
        return Standing(sha=_sha(info.sha, ref.repo), private=bool(info.private), gated=bool(info.gated))

    def list_org(self, org: str) -> list[RepoSummary]:
        """Every model repo of `org` (a user or an organisation), newest change first. One call per page.

        Repos without a commit are left out.

        Raises:
            HubUnreachable, AccessDenied
        """

        def listing() -> list[ModelInfo]:
            return list(self._api.list_models(author=org, expand=list(SUMMARY_FIELDS), sort="last_modified"))  # type: ignore[arg-type]

        return [_summary(info) for info in self._once(org, listing) if info.sha]

    def search(self, words: str, limit: int = 50) -> list[RepoSummary]:
        """The model repos whose names hold these words, the most popular first, without their cards. One call.

        Anybody's repo can be among them, and huggingface_hub gives up a whole listing for one card it cannot take.

        Raises:
            HubUnreachable, AccessDenied
        """

        def listing() -> list[ModelInfo]:
            fields = [field for field in SUMMARY_FIELDS if field != "cardData"]
            return list(self._api.list_models(search=words, limit=limit, expand=fields, sort="downloads"))  # type: ignore[arg-type]

        return [_summary(info) for info in self._once(words, listing) if info.sha]

    def tree(self, repo: str, sha: str) -> tuple[SourceFile, ...]:
        """Every file of `repo` at `sha`, with size and digest. One call per thousand files.

        Raises:
            SourceCorrupt: more than 10,000 files.
            RepoUnavailable, GatedSource, AccessDenied, HubUnreachable
        """

        def listing() -> list[SourceFile]:
            found = []
            for entry in self._api.list_repo_tree(repo, recursive=True, revision=sha):
                if isinstance(entry, RepoFile):
                    found.append(_source_file(entry))
                if len(found) > filenames.MAX_FILES:
                    raise SourceCorrupt(f"{repo} holds more than {filenames.MAX_FILES} files.")
            return found

        return tuple(self._once(f"{repo}@{sha}", listing))

    def tags(self, repo: str) -> tuple[str, ...]:
        """The names of a repo's tags. Raises as `look`."""
        return self._call(repo, lambda: tuple(ref.name for ref in self._api.list_repo_refs(repo).tags))

    def read_text(self, repo: str, sha: str, path: str, max_bytes: int) -> str:
        """The UTF-8 text of a small file at an exact commit.

        Raises:
            SourceCorrupt: larger than `max_bytes`, or not UTF-8.
            RepoUnavailable: no such file.
        """
        data = self.read_bytes(repo, sha, path, max_bytes)
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SourceCorrupt(f"{repo}: {path} is not UTF-8 text.") from error

    def read_bytes(self, repo: str, sha: str, path: str, max_bytes: int) -> bytes:
        """The bytes of a small file at an exact commit. Raises as `read_text`."""

        def body() -> bytes:
            with self._response(repo, sha, path, {}) as response:
                data = self._body(response, max_bytes + 1)
            if len(data) > max_bytes:
                raise SourceCorrupt(f"{repo}: {path} is larger than {max_bytes} bytes.")
            hub_http.check_whole(response, data)
            return data

        return self._keep((repo, sha, path), lambda: self._call(f"{repo}/{path}", body))

    def read_range(self, repo: str, sha: str, path: str, start: int, end: int) -> bytes:
        """Bytes `start` up to but not including `end` of a file; fewer if the file ends before.

        Raises:
            HubError: the server sent something else than that range.
            RepoUnavailable, GatedSource, AccessDenied, HubUnreachable
        """

        def body() -> bytes:
            with self._response(repo, sha, path, {"Range": f"bytes={start}-{end - 1}"}) as response:
                hub_http.check_range(response, start)
                return self._body(response, end - start)

        return self._keep((repo, sha, path, start, end), lambda: self._call(f"{repo}/{path}", body))

    @contextmanager
    def stream(self, repo: str, sha: str, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """The bytes of a file from `start` on, in blocks. Not retried: whoever writes them knows where to
        go on.

        Raises:
            HubUnreachable: also when the connection breaks half-way.
            HubError: the server did not go on at `start`.
        """
        with translated(f"{repo}/{path}"), hub_http.counted(self.calls):
            headers = {"Range": f"bytes={start}-"} if start else {}
            with self._response(repo, sha, path, headers) as response:
                if start:
                    hub_http.check_range(response, start)
                yield self._blocks(response)

    def _response(
        self, repo: str, sha: str, path: str, headers: dict[str, str]
    ) -> AbstractContextManager[httpx.Response]:
        url = hf_hub_url(repo, path, revision=sha, endpoint=self.endpoint)
        return hub_http.open_file(url, self.endpoint, self._token, headers)

    def _blocks(self, response: httpx.Response) -> Iterator[bytes]:
        for block in response.iter_raw(BLOCK):
            self.bytes_read += len(block)
            yield block

    def _body(self, response: httpx.Response, limit: int) -> bytes:
        """At most `limit` bytes of the body; the rest is not waited for."""
        data = bytearray()
        for block in self._blocks(response):
            data += block
            if len(data) >= limit:
                break
        return bytes(data[:limit])

    def _once(self, what: str, call: Callable[[], T]) -> T:
        """Make a call that HfApi itself retries: its listings obey Retry-After and RateLimit on their own."""
        with translated(what), hub_http.counted(self.calls):
            return call()

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """Make a call that nobody else retries; wait as long as the server asks between attempts."""
        for attempt in stamina.retry_context(on=retry_after, attempts=ATTEMPTS, timeout=None):
            with attempt:
                return self._once(what, call)
        raise AssertionError("stamina either returns or raises")

    def _keep(self, key: tuple[object, ...], read: Callable[[], bytes]) -> bytes:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        data = read()
        with self._lock:
            self._kept[key] = data
            while sum(map(len, self._kept.values())) > CACHE_BYTES:
                self._kept.popitem(last=False)
        return data


def _summary(info: ModelInfo) -> RepoSummary:
    config: dict[str, Any] = info.config if isinstance(info.config, dict) else {}
    card: dict[str, Any] = info.card_data.to_dict() if info.card_data else {}  # type: ignore[no-untyped-call]
    named = config.get("architectures")
    return RepoSummary(
        repo=info.id,
        sha=_sha(info.sha, info.id),
        last_modified=info.last_modified,
        architectures=tuple(a for a in named if isinstance(a, str)) if isinstance(named, list) else (),
        model_type=str(config.get("model_type") or ""),
        quantized="quantization_config" in config,
        tags=tuple(str(tag) for tag in info.tags or ()),
        card=card,
        gated=bool(info.gated),
        private=bool(info.private),
    )


def _source_file(entry: RepoFile) -> SourceFile:
    return SourceFile(path=entry.path, size=int(entry.size), digest=entry.lfs.sha256 if entry.lfs else entry.blob_id)


def _sha(value: object, repo: str) -> str:
    if not isinstance(value, str) or len(value) != 40 or not set(value) <= set("0123456789abcdef"):
        raise RepoUnavailable(f"{repo} has no commit yet.")
    return value
