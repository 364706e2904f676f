"""What acceptance tests are told of the first round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from go_between import Seen
from hub_world import Ran, World


@dataclass(frozen=True)
class Published:
    """The first round of the watcher on a Hub that holds one release, and everything that was seen of it."""

    world: World
    sha: str
    ran: Ran
    token: str
    snapshot: Path
    seen: tuple[Seen, ...]
    children: frozenset[tuple[bytes, bytes]]
    started: tuple[dict[str, object], ...]
    knocked_elsewhere: bool
