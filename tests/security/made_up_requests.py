"""Requests that nobody would send by mistake: every route of the embedded Hub, with odd names, headers and bodies.

A request is written with placeholders such as `@commit@`, which `FencedHub` fills in, so that the same examples come
back in every run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from hypothesis import strategies as st
from made_up_bodies import HIDDEN, SHA, Some, bodies, mostly, odd, one_of, paths, repos, values
from starlette.routing import Route

WHO = ("nobody", "wrong", "eve", "eve", "eve", "eve's reader", "eve's app", "ada", "miller's reader", "miller's app")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
LINKS = ("@whole@", "@part@", "@joined@", "@verify@", "@xorb@", "@shard@")


@dataclass(frozen=True)
class MadeUp:
    """One request. `announced` is a Content-Length that is not the body's; None tells the truth."""

    method: str
    target: str
    who: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    announced: int | None = None

    def __contains__(self, text: str) -> bool:
        return text in self.target or text.encode() in self.body

    def about(self, other: str) -> MadeUp:
        """The same request about another repo than the hidden one."""
        target, body = self.target.replace(HIDDEN, other), self.body.replace(HIDDEN.encode(), other.encode())
        return replace(self, target=target, body=body)


PARAMS: dict[str, Some] = {
    "rev": one_of("main", "main", "refs/heads/main", "v1.0", "dev", "@commit@"),
    "path": paths,
    "slug": one_of("@hidden slug@", "@eve's slug@"),
    "item": one_of("@eve's item@"),
    "webhook": one_of("@miller's webhook@", "@eve's webhook@"),
    "oid": one_of(SHA),
}
QUERY = (
    *("limit", "p", "cursor", "recursive", "expand", "blobs", "full", "cardData", "config", "search", "filter"),
    *("author", "sort", "gated", "pipeline_tag", "owner", "item", "create_pr", "size", "expires", "signature"),
    *("client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method"),
)
RANGES = ("bytes=0-0", "bytes=-5", "bytes=5-2", "bytes=0-99999999999999999999", "bytes=0-0,2-3", "chars=1", "bytes=-")
HEADERS = {
    "Range": RANGES,
    "Content-Type": ("application/json", "application/x-www-form-urlencoded", "text/é"),
    "If-None-Match": ('"x"', "*"),
    "Host": ("[", "evil.test", "a b", "127.0.0.1:99999", ""),
    "X-Forwarded-Proto": ("https", "javascript"),
    "X-Forwarded-For": ("evil", "1.2.3.4, ::1"),
    "Accept-Encoding": ("gzip",),
    "Expect": ("100-continue",),
}
WRONG = ("Bearer hf_wrong", "Bearer", "bearer  ", "Basic é", "Basic Og==", "Basic !!!", "Bearer a.b", "é", "Digest x")


def _header(name: str) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.just(name), st.sampled_from(HEADERS[name]))


def _shape(route: Route) -> str:
    """Equal for what is served alike for models, datasets and Spaces, so that it comes up no more often."""
    return re.sub("^(/api)?/?(models|datasets|spaces)", r"\1", route.path) + str(sorted(route.methods or ()))


def _target(route: Route, params: dict[str, object], query: list[tuple[str, object]], plain: bool) -> str:
    """The path of a route, filled in. `plain` sends slashes as they are."""
    path = route.path
    for name, value in params.items():
        kept = quote(str(value), "/@'" if plain or name == "path" else "@'")
        path = path.replace(f"{{{name}}}", kept).replace(f"{{{name}:path}}", kept)
    asked = "&".join(f"{quote(name)}={quote(str(value), safe='@/:')}" for name, value in query)
    return f"{path}?{asked}" if asked else path


@st.composite
def requests(draw: st.DrawFn, routes: tuple[Route, ...]) -> MadeUp:
    """A request to one of the routes, or to nearly one of them."""
    shape = draw(st.sampled_from(sorted({_shape(route) for route in routes})))
    route = draw(st.sampled_from([route for route in routes if _shape(route) == shape]))
    repo = dict(zip(("owner", "name"), draw(repos), strict=True))
    params = {name: repo.get(name) or draw(PARAMS.get(name, odd)) for name in route.param_convertors}
    query = draw(st.lists(st.tuples(st.sampled_from(QUERY), values), max_size=3))
    target = _target(route, params, query, draw(st.booleans()))
    if route.path.startswith(("/lfs/", "/cas/")) and draw(st.booleans()):
        target = draw(st.sampled_from(LINKS))
    who = draw(st.sampled_from(WHO))
    headers = draw(st.lists(st.sampled_from(sorted(HEADERS)).flatmap(_header), max_size=2, unique_by=lambda h: h[0]))
    if who == "wrong":
        headers.append(("Authorization", draw(st.sampled_from(WRONG))))
    method = str(draw(mostly(st.sampled_from(sorted(route.methods or ())), st.sampled_from(METHODS))))
    body = draw(bodies(route.path))
    assert isinstance(body, bytes)
    announced = draw(st.sampled_from([None] * 60 + [len(body) + 1, 2**31, 2**70, -1]))
    return MadeUp(method, target, who, tuple(headers), body, announced)
