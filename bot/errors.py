"""Every error phimill raises on purpose.

    PhimillError                 exit 1
    ├── UsageError               exit 2   what was asked for cannot be understood
    │   ├── InvalidRepoId
    │   └── KeyUnusable                     a key file cannot be read, or is of the wrong kind
    ├── VerdictRefused           exit 3   the release cannot be converted, and says why
    ├── GateFailed               exit 4   an artifact was made but did not match its source
    ├── HubError                 exit 5   the Hub could not be reached or said no
    │   ├── HubUnreachable                  (retryable)
    │   ├── RepoUnavailable
    │   ├── AccessDenied
    │   ├── GatedSource
    │   ├── HeadMoved                       (retryable)
    │   ├── NotOurs                         the target repo was not made by phimill
    │   ├── Superseded                      a newer version of the source was published meanwhile
    │   └── SignInNeeded                    a person's own token is needed and is not at hand
    ├── NotEnoughRoom            exit 6   disk or memory
    ├── NotAsRecorded            exit 7   what is published is not what its receipt says
    ├── SourceCorrupt            exit 3   the source's bytes are not what they claim
    ├── ConverterFailed          exit 1   a child process ended badly
    │   └── ConverterStopped                it hit a limit: memory, time, file size
    │       └── MemoryExceeded
    ├── ToolchainFailed          exit 1   a backend's environment could not be made
    ├── Busy                     exit 1   a limit of what one person, one address or the queue may hold
    └── BuildCancelled           exit 1

Each carries one sentence saying what is wrong (`message`) and one saying what to do (`hint`). `code` is stable and is
what the JSON output and the tests look at; `retryable` says whether trying the same thing again can help, and
`mendable` whether it can once a person has seen to the machine or the account.
"""

from __future__ import annotations

import errno

from bot.redaction import redacted


class PhimillError(Exception):
    """Something phimill can explain."""

    code = "error"
    exit_code = 1
    retryable = False
    mendable = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(redacted(message))
        # Errors are stored and shown; some quote what a Hub or a converter said.
        self.message = redacted(message)
        self.hint = redacted(hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[type[PhimillError], tuple[str, str]]:
        # Exceptions cross the durable engine's serializer, which rebuilds them from their arguments.
        return type(self), (self.message, self.hint)


class UsageError(PhimillError):
    """What was asked for cannot be understood."""

    code = "usage"
    exit_code = 2


class InvalidRepoId(UsageError):
    """Not an `owner/name[@revision]` and not a URL of the configured Hub."""

    code = "invalid_repo_id"


class KeyUnusable(UsageError):
    """A key file cannot be read, or holds no key that can sign or that signatures can be held against."""

    code = "key_unusable"
    mendable = True


class VerdictRefused(PhimillError):
    """The verdict says that no asked-for recipe can be made from this release."""

    code = "refused"
    exit_code = 3


class SourceCorrupt(PhimillError):
    """The source's files are not what their own metadata claims."""

    code = "source_corrupt"
    exit_code = 3


class GateFailed(PhimillError):
    """An artifact was made, but it does not say what its source says."""

    code = "gate_failed"
    exit_code = 4


class HubError(PhimillError):
    """The Hub could not be reached or refused the request."""

    code = "hub"
    exit_code = 5


class HubUnreachable(HubError):
    """Connection refused, timed out, rate limited or a server error after every retry."""

    code = "hub_unreachable"
    retryable = True


class RepoUnavailable(HubError):
    """The repo or the revision does not exist, or is private to others."""

    code = "repo_unavailable"


class AccessDenied(HubError):
    """The token is missing, wrong, or lacks the right to write."""

    code = "access_denied"
    mendable = True


class GatedSource(HubError):
    """The source repo asks for consent that this account has not given."""

    code = "gated"
    mendable = True


class HeadMoved(HubError):
    """Somebody else committed to the target repo first."""

    code = "head_moved"
    retryable = True


class NotOurs(HubError):
    """The target repo exists and was not made by phimill."""

    code = "not_ours"


class Superseded(HubError):
    """The target repo already holds something made from a newer state of the source."""

    code = "superseded"


class SignInNeeded(HubError):
    """A build is to use its asker's own token, and nobody has handed that over since this process began."""

    code = "sign_in_needed"


class NotEnoughRoom(PhimillError):
    """Too little disk or memory for this build."""

    code = "not_enough_room"
    mendable = True
    exit_code = 6


class NotAsRecorded(PhimillError):
    """What is published is not what its receipt and its statement say."""

    code = "not_as_recorded"
    exit_code = 7


class ConverterFailed(PhimillError):
    """A converter child ended with an error."""

    code = "converter_failed"


class ConverterStopped(ConverterFailed):
    """A converter child was stopped at one of its limits."""

    code = "converter_stopped"


class MemoryExceeded(ConverterStopped):
    """A converter child held more memory than it was given: `limit`, in bytes."""

    code = "memory_exceeded"

    def __init__(self, message: str, hint: str = "", *, limit: int = 0) -> None:
        super().__init__(message, hint)
        self.limit = limit


class ToolchainFailed(PhimillError):
    """A backend's Python environment could not be made."""

    code = "toolchain_failed"
    mendable = True


class Busy(PhimillError):
    """Too much was asked for at once; the hint says when to come back."""

    code = "busy"


class BuildCancelled(PhimillError):
    """Somebody cancelled the build."""

    code = "cancelled"


def of_the_disk(error: BaseException) -> NotEnoughRoom | None:
    """What an error says of the disk: that it (or the account's share of it) is full, or that it can only be read."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughRoom("The disk is full.", "Free some space; the next run goes on where this one stopped.")
    if error.errno == errno.EROFS:
        return NotEnoughRoom(
            "The disk can only be read.", "Make it writable; the next run goes on where this one stopped."
        )
    return None


def error_classes() -> dict[str, type[PhimillError]]:
    """Every error class by its code, so that a stored error becomes the same error again."""
    found: dict[str, type[PhimillError]] = {}
    pending: list[type[PhimillError]] = [PhimillError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found
