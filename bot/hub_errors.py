"""Every way in which huggingface_hub fails, as one of `bot.errors`. The publisher uses this too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import parse_ratelimit_headers

from bot.errors import (
    AccessDenied,
    GatedSource,
    HeadMoved,
    HubError,
    HubUnreachable,
    InvalidRepoId,
    PhimillError,
    RepoUnavailable,
    of_the_disk,
)

LONGEST_WAIT = 300.0  # seconds; the Hub's rate limits are per five minutes
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


def retry_after(error: Exception) -> bool | float:
    """Whether (and after how many seconds) a call that failed with `error` is worth another attempt."""
    if not isinstance(error, PhimillError) or not error.retryable:
        return False
    wait = _asked_wait(error.__cause__)
    return True if wait is None else wait <= LONGEST_WAIT and wait


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises inside into one of our errors. `what` is what was asked for."""
    try:
        yield
    except PhimillError:
        raise
    except HfHubHTTPError as error:
        raise _from_answer(what, error) from error
    except (httpx.HTTPError, OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        raise HubUnreachable(
            f"The Hub did not answer about {what} ({type(error).__name__}).",
            "Check the network and HF_ENDPOINT.",
        ) from error
    except HFValidationError as error:
        raise InvalidRepoId(f"{what!r} is not a repo id.", "Give it as owner/name.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # The answer parsed as something else than the protocol says: a proxy's login page, a half-written
        # mirror.
        raise HubError(f"The Hub's answer about {what} cannot be understood ({type(error).__name__}).") from error


@contextmanager
def uploading(repo: str) -> Iterator[None]:
    """Translate what a commit can raise; a stale parent and a broken upload are worth another try."""
    with translated(repo):
        try:
            yield
        except HfHubHTTPError as error:
            if error.response.status_code in (409, 412):
                raise HeadMoved(f"Somebody else committed to {repo} first.", "Try again.") from error
            raise
        except (RuntimeError, OSError) as error:
            if (known := of_the_disk(error)) is not None:
                raise known from error
            # hf_xet, which moves the bytes, raises RuntimeError for everything from a refused connection on.
            # What hf_xet says may hold a signed address, and what is raised here is stored and shown.
            said = re.sub(r"https?://\S+", "(address)", str(error))[:300]
            if re.search(r"\b40[13]\b", said):
                raise AccessDenied(f"The Hub refused the upload to {repo}: {said}", "Check the token.") from error
            raise HubUnreachable(f"The upload to {repo} broke off: {said}", "Try again later.") from error


def _from_answer(what: str, error: HfHubHTTPError) -> HubError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return GatedSource(f"{what} is gated.", "Accept its terms on the Hub with this account, then try again.")
    if isinstance(error, RemoteEntryNotFoundError):
        return RepoUnavailable(f"{what} does not exist.")
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | DisabledRepoError):
        return RepoUnavailable(f"{what} does not exist, is disabled, or is private to others.", "Check the name.")
    if status in (401, 403):
        return AccessDenied(f"The Hub refused access to {what} ({status}).", "Check the token and its rights.")
    if status in _TRANSIENT:
        return HubUnreachable(
            f"The Hub answered {status} about {what}.", "It is busy or limits our rate; try again later."
        )
    if status == 404:
        return RepoUnavailable(f"{what} does not exist.")
    return HubError(f"The Hub answered {status} about {what}.")


def _asked_wait(cause: BaseException | None) -> float | None:
    """Seconds the server asked us to wait: `Retry-After` in seconds, or an exhausted `RateLimit`."""
    if not isinstance(cause, HfHubHTTPError):
        return None
    headers = cause.response.headers
    asked = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,6}", asked):
        return float(asked)
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None
