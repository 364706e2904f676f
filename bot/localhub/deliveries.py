"""Delivers queued webhook payloads, again and again until they arrive or are given up.

The queue is in the database: a restart goes on where the last process stopped. A payload may arrive twice (if
the process dies between the receiver's answer and our note of it), but is not lost within the attempts.
"""

from __future__ import annotations

import http.client
import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

from bot.localhub.database import Database
from bot.logs import get_logger

log = get_logger(__name__)

MAX_ATTEMPTS = 14
FIRST_DELAY = 0.5  # seconds; doubles after each attempt
LONGEST_DELAY = 3600.0
TIMEOUT = 10.0  # seconds for one attempt
LONGEST_PAUSE = 60.0  # seconds between looks at the queue
KEPT = 1000  # finished deliveries, for who wants to know what became of them
_LEASE = 3 * TIMEOUT
_PARALLEL = 4


class Courier:
    """A thread that watches the queue, and a few that send."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._wake = threading.Event()
        self._stopping = False
        self._sending: set[Future[None]] = set()
        self._senders = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="webhook")
        with db.write() as connection:
            # Attempts that the last process did not live to finish are due now.
            connection.execute("UPDATE deliveries SET due = min(due, ?) WHERE due IS NOT NULL", (time.time(),))
            connection.execute(
                "DELETE FROM deliveries WHERE due IS NULL AND id <= (SELECT max(id) FROM deliveries) - ?",
                (KEPT,),
            )
        self._thread = threading.Thread(target=self._run, name="webhook-courier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop sending. What is still queued stays queued."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._senders.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._send_due()
                pause = self._until_next()
            except sqlite3.Error:
                log.exception("The webhook queue cannot be read or written; trying again.")
                pause = LONGEST_PAUSE
            self._wake.wait(pause)

    def _send_due(self) -> None:
        self._sending = {future for future in self._sending if not future.done()}
        # Only what a sender takes up at once is claimed: a lease must not run out in a line.
        for row in self._claim(_PARALLEL - len(self._sending)):
            self._sending.add(self._senders.submit(self._deliver, row))

    def _claim(self, most: int) -> list[sqlite3.Row]:
        now = time.time()
        with self._db.read() as connection:
            due = connection.execute("SELECT 1 FROM deliveries WHERE due <= ?", (now,)).fetchone()
        if due is None or not most:
            return []
        with self._db.write() as connection:
            rows = connection.execute(
                "SELECT deliveries.id, payload, attempts, url, secret FROM deliveries"
                " JOIN webhooks ON webhooks.id = webhook_id"
                " WHERE due <= ? ORDER BY deliveries.id LIMIT ?",
                (now, most),
            ).fetchall()
            connection.executemany(
                "UPDATE deliveries SET due = ?, attempts = attempts + 1 WHERE id = ?",
                [(now + _LEASE, row["id"]) for row in rows],
            )
        return rows

    def _until_next(self) -> float:
        with self._db.read() as connection:
            (due,) = connection.execute("SELECT min(due) FROM deliveries").fetchone()
        return LONGEST_PAUSE if due is None else min(LONGEST_PAUSE, max(0.05, due - time.time()))

    def _deliver(self, row: sqlite3.Row) -> None:
        delivered, outcome = send(row["url"], row["payload"], row["secret"])
        attempts = row["attempts"] + 1
        over = delivered or attempts >= MAX_ATTEMPTS
        due = None if over else time.time() + min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempts - 1))
        with self._db.write() as connection:
            connection.execute("UPDATE deliveries SET due = ?, outcome = ? WHERE id = ?", (due, outcome, row["id"]))
        self.wake()


def send(url: str, payload: str, secret: str | None) -> tuple[bool, str]:
    """POST one payload. Return whether the receiver took it (any 2xx), and what it said or what broke."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Content-Type": "application/json", "User-Agent": "phimill-hub"}
    if secret:
        headers["X-Webhook-Secret"] = secret
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request("POST", parts._replace(scheme="", netloc="").geturl() or "/", payload, headers)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return False, f"{type(error).__name__}: {error}"[:300]
    finally:
        connection.close()
    return 200 <= response.status < 300, f"{response.status} {response.reason}"[:300]
