"""The builds that the durable engine, DBOS, keeps: its workflows, as far as they are ours.

SQLite serves one machine; a Postgres URL serves many workers with the same code.
"""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa

from bot import logs
from bot.builds import BuildRequest
from bot.journal import connect
from bot.settings import Settings
from bot.withheld import token_withheld

with token_withheld():
    from dbos import DBOS, DBOSClient
    from dbos._serialization import DBOSPortableJSONSerializer

# Part of every stored workflow. Raise it when the order or the names of a build's steps change.
WORKFLOW_VERSION = "2"


@sa.event.listens_for(sa.Engine, "handle_error")
def _mark_as_away(context: sa.ExceptionContext) -> None:
    """Have DBOS wait for a server whose socket is gone, as while it is restarted. It knows a server that cannot be
    reached by what psycopg says, and this it does not know (`retriable_postgres_exception`).
    """
    found = context.sqlalchemy_exception
    if isinstance(found, sa.exc.OperationalError) and "connection is bad" in str(found.orig):
        context.is_disconnect = True


def queue(backend: str) -> str:
    """The queue of one backend's builds: those of different backends go side by side."""
    return f"builds-{backend}"


def asker_of(status: Any) -> str | None:
    """Who asked for a stored build."""
    asker = status.input["args"][0].get("asker")
    return None if asker is None else str(asker)


class Store:
    """Stored builds, as DBOS's `WorkflowStatus`. Safe to use from several threads and processes."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database_url or f"sqlite:///{settings.home / 'engine.sqlite'}"
        if not settings.database_url:
            connect(self.url).connect().close()  # WAL is a property of the file: set before DBOS opens it
        logs.adopt("dbos")
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS.migrate(system_database_url=self.url)
        self._client = DBOSClient(system_database_url=self.url, serializer=DBOSPortableJSONSerializer())

    def close(self) -> None:
        self._client.destroy()

    def enqueue(self, build: str, request: BuildRequest, priority: int, *, person: bool) -> None:
        """Store a new build, to be taken by a worker."""
        self._client.enqueue(
            {
                "queue_name": queue(request.backend),
                "workflow_name": "build",
                "workflow_id": build,
                "app_version": WORKFLOW_VERSION,
                "priority": priority,
            },
            request.model_dump(mode="json"),
            person,
        )

    def stored(self, **which: Any) -> list[Any]:
        """Stored builds. Those of an older version, whose requests had another form, are planned again instead."""
        return list(self._client.list_workflows(name="build", app_version=WORKFLOW_VERSION, **which))

    def queue_again(self, status: Any) -> None:
        """Have a build go on after its last finished step."""
        self._client.resume_workflow(status.workflow_id, queue_name=queue(status.input["args"][0]["backend"]))

    def cancel(self, build: str) -> None:
        """Stop a build: whoever runs it lets go of it."""
        self._client.cancel_workflow(build)

    def cancelled(self, build: str) -> bool:
        """Whether a build was cancelled (by anyone, anywhere)."""
        found = self._client.list_workflows(workflow_ids=[build], load_input=False, load_output=False)
        return bool(found) and found[0].status == "CANCELLED"

    def steps(self, build: str) -> tuple[str, ...]:
        """The names of the steps that a build has finished, in order."""
        done = self._client.list_workflow_steps(build) or ()
        return tuple(step["function_name"] for step in done if step["error"] is None)
