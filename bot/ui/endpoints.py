"""What programs may call by name: check, convert, status, cancel and advise. Agents find the same as tools (MCP).

They are no part of the page's queue. Gradio calls queued functions for an agent through a connection to itself, whose
address it takes from the first caller's Host header, and would send everybody's token there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import gradio as gr
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import BaseModel, Field, ValidationError, validate_call

from bot.devices import parse_memory
from bot.errors import PhimillError
from bot.logs import get_logger
from bot.ui.asking import asked

if TYPE_CHECKING:
    from bot.desk import Desk

log = get_logger(__name__)

AT_ONCE = 4  # calls; the others wait for their turn without holding a thread
Short = Annotated[str, Field(max_length=300)]
Answer = dict[str, Any]
Handler = Callable[..., Answer]


class Refused(gr.Error):  # type: ignore[misc]
    """A sentence for whoever calls, whichever way they came: over HTTP, or as an agent."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip(), print_exception=False)

    def __str__(self) -> str:
        return str(self.message)


def add_endpoints(desk: Desk) -> None:
    """Add the endpoints to the page that is being made. What they say of themselves is what agents read."""
    turns = CapacityLimiter(AT_ONCE)

    async def answer(handler: Handler, request: gr.Request, **values: Any) -> Answer:
        said = asked(desk, lambda desk, who: handler(desk, who, **values))
        # An agent's call comes with the request as the server has it, the others with Gradio's view of it.
        seen = request if isinstance(request, gr.Request) else gr.Request(request)
        given: Answer = await run_sync(_told, said, seen, limiter=turns)
        return given

    async def check(repo: str, request: gr.Request) -> dict[str, Any]:
        """Say what phimill can make of a Microsoft Phi model on the Hugging Face Hub, without downloading its weights.

        Answers with the release (commit, architecture, parameters), and for every recipe, such as gguf/int4, a verdict
        (supported, caveat, unsupported or known_broken) with reasons, and what making it needs in bytes and minutes.
        `published` maps the recipes that exist already to their version. Changes nothing and needs no token.

        Args:
            repo: The model on the Hub, as owner/name, owner/name@revision or its address there.
        """
        return await answer(_check, request, repo=repo)

    async def advise(
        repo: str, device: str, request: gr.Request, memory: str = "", context: int = 4096
    ) -> dict[str, Any]:
        """Choose which converted variant of a Phi model to run on a device, and say how to get and run it.

        Answers with the `pick` (recipe, repo, tag, memory needed, snippets to run it), a runner-up, and why. Without a
        `pick` nothing fits, and `smallest` is the smallest that exists. Changes nothing and needs no token.

        Args:
            repo: The source model on the Hub, as owner/name; not one of its conversions.
            device: What it is to run on: laptop, mac, phone, browser, ... A wrong one is answered with the list.
            memory: How much memory the device has, such as 8GB; empty for what a usual one has.
            context: Tokens of prompt and answer together.
        """
        return await answer(_advise, request, repo=repo, device=device, memory=memory, context=context)

    async def convert(
        repo: str,
        request: gr.Request,
        recipes: list[str] | None = None,
        namespace: str = "",
        private: bool = False,
    ) -> dict[str, Any]:
        """Convert a Phi model, measure every variant against its source, and publish to the Hub what passes.

        This uploads to an account on the Hub. It needs a token that may write there, in the Authorization header:
        "Bearer hf_...". It returns at once with the queued `builds`; ask status about their ids until their phase is
        done, failed or cancelled. `variants` are those that needed no build: published already, or refused with a
        reason. Calling it twice begins nothing twice.

        Args:
            repo: The model on the Hub, as owner/name or owner/name@revision.
            recipes: What to make: ids such as gguf/int4, or whole backends such as gguf; empty for the usual ones.
            namespace: The account to publish to; empty for the usual one.
            private: Whether only that account is to see what is published. Refused for a repo that is public already.
        """
        given = {"recipes": recipes or [], "namespace": namespace, "private": private}
        return await answer(_convert, request, repo=repo, **given)

    async def status(request: gr.Request, build: str = "", limit: int = 20) -> dict[str, Any]:
        """Say how builds are doing: their phase, progress, place in the queue, results and what failed.

        Answers with `builds`, the newest first, and `paused`, which is true while nothing goes on. Changes nothing.

        Args:
            build: A build's id, or the beginning of it; empty for the newest builds.
            limit: How many builds to list, 50 at most.
        """
        return await answer(_status, request, build=build, limit=limit)

    async def cancel(build: str, request: gr.Request) -> dict[str, Any]:
        """Stop a build for good. What it published stays. Needs the token of whoever asked for the build.

        Args:
            build: The build's id, or the beginning of it.
        """
        return await answer(_cancel, request, build=build)

    for endpoint in (check, convert, status, advise, cancel):
        gr.api(endpoint, api_name=endpoint.__name__, queue=False)


def _spelled(answer: dict[str, Any], request: gr.Request) -> Any:
    """Gradio gives agents the `str` of an answer, and they read JSON rather than Python."""
    return json.dumps(answer, ensure_ascii=False) if "/gradio_api/mcp" in request.url.path else answer


def _told(handler: Handler, request: gr.Request) -> Any:
    """The answer, or in a sentence why there is none."""
    try:
        return _spelled(handler(request), request)
    except PhimillError as error:
        raise Refused(error.message, error.hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    except gr.Error as error:
        raise Refused(str(error.message)) from None
    except Exception:
        log.exception("An endpoint failed.")
        raise Refused("This went wrong on our side.", "The server's log says more.") from None


def _plain(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json")


@validate_call
def _check(desk: Any, who: Any, repo: Short) -> dict[str, Any]:
    report = desk.check(who, repo)
    # As a list of objects with a `path` Gradio's client would take them for files of this server, and fetch them.
    files = {file.path: file.size for file in report.release.files}
    answer = _plain(report)
    return answer | {"release": answer["release"] | {"files": files}}


@validate_call
def _advise(
    desk: Any, who: Any, repo: Short, device: Short, memory: Short, context: Annotated[int, Field(ge=1, le=10**7)]
) -> dict[str, Any]:
    size = parse_memory(memory) if memory.strip() else None
    return _plain(desk.advise(who, repo, device, size, context))


@validate_call
def _convert(
    desk: Any,
    who: Any,
    repo: Short,
    recipes: Annotated[list[Short], Field(max_length=100)],
    namespace: Short,
    private: bool,
) -> dict[str, Any]:
    plan = desk.plan(who, repo, recipes, namespace.strip() or None, private=private)
    builds = desk.submit(who, plan)
    return {
        "release": {"repo": plan.release.repo, "sha": plan.release.sha},
        "variants": [_plain(result) for result in plan.results],
        "builds": [_plain(build) for build in builds],
    }


@validate_call
def _status(desk: Any, who: Any, build: Short, limit: Annotated[int, Field(ge=1, le=50)]) -> dict[str, Any]:
    found = (desk.build(who, build),) if build.strip() else desk.builds(who, limit)
    return {"paused": desk.mill.paused, "builds": [_plain(one) for one in found]}


@validate_call
def _cancel(desk: Any, who: Any, build: Short) -> dict[str, Any]:
    return {"builds": [_plain(desk.cancel(who, build))]}
