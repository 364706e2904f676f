"""What every handler shares: the records, the files, the keys and the outgoing events."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from bot.localhub import objects
from bot.localhub.config import HubConfig
from bot.localhub.database import Database
from bot.localhub.deliveries import Courier
from bot.localhub.grants import Grants, IdTokens
from bot.localhub.signing import Signer
from bot.localhub.store import BlobStore
from bot.localhub.xorbs import XorbStore

# A process that is just ending gets this long to let go, in seconds.
LOCK_TIMEOUT = 5.0


class HubInUseError(RuntimeError):
    """Another process serves the same root."""


class Hub:
    """One Hub root, opened. Close it with `close`."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(root / "serving.lock", thread_local=False)
        try:
            # Two servers on one root would sweep each other's uploads.
            self._lock.acquire(timeout=LOCK_TIMEOUT)
        except Timeout as error:
            raise HubInUseError(f"Another process is already serving {root}.") from error
        self.config = HubConfig(root)
        self.store = BlobStore(root)
        self.db = Database(root / "hub.sqlite")
        with self.db.read() as connection:
            named = objects.referenced(connection)
        # Deleted repositories and interrupted commits leave blobs that nothing names any more. Where nothing
        # is named at all, the records may have been lost, and the blobs be what is left of them.
        if named:
            self.store.keep_only(named)
        self.signer = Signer(root / "signing.key")
        self.xorbs = XorbStore(root, self.store)
        self.courier = Courier(self.db)
        self.grants = Grants(self.db)
        self.id_tokens = IdTokens(root / "openid.pem")

    def close(self) -> None:
        """Stop delivering events and let go of the root."""
        self.courier.stop()
        self.db.close()
        self._lock.release()
