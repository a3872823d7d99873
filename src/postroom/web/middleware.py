"""One line for each request, in which nobody can be found again.

No address, no token and no query string stands in it, and of the client only the network: /24 of
IPv4, /64 of IPv6, which is what a household or an office has.
"""

from __future__ import annotations

import ipaddress
import traceback
from collections.abc import Mapping
from datetime import datetime
from time import perf_counter
from urllib.parse import quote

from attrs import define, frozen
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.errors import DatabaseError
from postroom.web.http import (
    BODY_LIMIT,
    HEAD_LIMIT,
    METHODS,
    PATH_VARIANTS,
    SERVICE,
    AppDeps,
    decode_path,
    default_headers,
    path_variants,
)
from postroom.web.pages import ServicePages
from postroom.web.static import not_allowed

_HIDDEN = "…"
# Longer than any name of ours; of a path that is not there, nobody knows what it holds.
_LONGEST_NAME = 15


@frozen
class AccessLogEntry:
    """A request and its answer; `path` is nothing where it was refused for what it is.

    `status` 0 means that the client went away, or was cut off, before there was an answer.
    """

    at: datetime
    client: str
    method: str
    path: str | None
    status: int
    milliseconds: float

    def __str__(self) -> str:
        """Return `2026-11-22T09:00:00Z 192.0.2.0/24 POST /list/unsubscribe/… 200 4 ms`."""
        at = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        path = printable_path(self.path, there=self.status in {200, 206, 301, 304, 410, 416})
        answer = self.status or "gone"
        took = f"{self.milliseconds:.0f} ms"
        return f"{at} {truncate_network(self.client)} {self.method} {path} {answer} {took}"


def truncate_network(client: str) -> str:
    """Return the network that `client`, an address, is part of: /24 or /64; `-` for no address."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return "-"
    mapped = getattr(address, "ipv4_mapped", None) or address
    length = 24 if mapped.version == 4 else 64
    return str(ipaddress.ip_network((mapped, length), strict=False))


def printable_path(path: str | None, *, there: bool) -> str:
    """Return `path` without what could be a token or an address.

    Below `/list/` only the name of the page is left. A file that is `there` has a public name; of
    any other path, whatever is long or holds an `@` is hidden.
    """
    if path is None:
        return _HIDDEN
    if path.startswith(SERVICE):
        name, slash, rest = path.removeprefix(SERVICE).partition("/")
        return f"{SERVICE}{_short(name)}{slash}{_HIDDEN if rest else ''}"
    steps = path.split("/")
    return "/".join(quote(step) if there else _short(step) for step in steps)


def _short(step: str) -> str:
    hidden = len(step) > _LONGEST_NAME or "@" in step
    return _HIDDEN if hidden else quote(step)


_LATER = {"Retry-After": "60"}


class _TooLongError(Exception):
    """A request has more bytes than any of ours; `status` says where."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@define
class _Exchange:
    """One request and its answer, as they go by."""

    receive: Receive
    send: Send
    fields: Mapping[str, str]
    taken: int = 0
    status: int = 0

    async def take(self) -> Message:
        """Hand on what comes in, up to the limit."""
        message = await self.receive()
        self.taken += len(message.get("body", b""))
        if self.taken > BODY_LIMIT:
            raise _TooLongError(413)  # RFC 9110 §15.5.14
        return message

    async def give(self, message: Message) -> None:
        """Hand on what goes out, with the fields that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self.fields.items():
                headers.setdefault(name, value)
        await self.send(message)


@frozen
class Middleware:
    """Lets requests through to `app`."""

    app: ASGIApp
    prefixes: tuple[str, ...]
    pages: ServicePages
    outside: AppDeps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of HTTP; there is nothing else here."""
        began, path = perf_counter(), decode_path(scope["raw_path"])
        meant = path_variants(path, self.prefixes) if path else ()
        # What is refused for its path may hold a token, too.
        dress = default_headers(meant[0] if meant else SERVICE, https=scope["scheme"] == "https")
        exchange = _Exchange(receive, send, dress)
        try:
            await self._answer(scope, meant, exchange)
        except ClientDisconnect:
            exchange.status = 0
        except Exception as error:  # noqa: BLE001 - nothing may get out: a trace holds tokens
            await self._excuse(scope, exchange, error)
        took = (perf_counter() - began) * 1000
        self.outside.write(str(self._entry(scope, meant, exchange.status, took)))

    def _entry(
        self, scope: Scope, meant: tuple[str, ...], status: int, took: float
    ) -> AccessLogEntry:
        client = (scope.get("client") or ("",))[0]
        method = scope["method"] if scope["method"] in METHODS else "?"
        path = meant[0] if meant else None
        return AccessLogEntry(self.outside.clock(), client, method, path, status, took)

    async def _answer(self, scope: Scope, meant: tuple[str, ...], exchange: _Exchange) -> None:
        answer: ASGIApp = self.app
        if _head(scope) > HEAD_LIMIT:
            raise _TooLongError(431)  # RFC 6585 §5
        if scope["method"] not in METHODS:
            answer = not_allowed(", ".join(METHODS))
        elif not meant:
            answer = HTMLResponse(self.pages.missing, 404)
        elif _length(scope) > BODY_LIMIT:
            raise _TooLongError(413)
        path = meant[0] if meant else "/"
        inner = {**scope, "path": path, PATH_VARIANTS: meant}
        await answer(inner, exchange.take, exchange.give)

    async def _excuse(self, scope: Scope, exchange: _Exchange, error: Exception) -> None:
        if not isinstance(error, _TooLongError):
            self.outside.write(f"error: {_described(error)}")
        if exchange.status:
            # It has begun: all that is left is to break it off, which the server does.
            return
        response = self._excuse_for(error)
        await response(scope, exchange.receive, exchange.give)

    def _excuse_for(self, error: Exception) -> Response:
        if isinstance(error, _TooLongError):
            headers = {"Connection": "close"}
            return PlainTextResponse("This is too long.\n", error.status, headers)
        if isinstance(error, DatabaseError):
            return HTMLResponse(self.pages.busy, 503, _LATER)
        return HTMLResponse(self.pages.failed, 500)


def _head(scope: Scope) -> int:
    pairs = sum(len(name) + len(value) for name, value in scope["headers"])
    return pairs + len(scope["raw_path"]) + len(scope["query_string"])


def _length(scope: Scope) -> int:
    """Return the length that the request announces; the server has checked the field."""
    return int(Headers(scope=scope).get("content-length", "0"))


def _described(error: Exception) -> str:
    """Return the kind of `error` and where it came up, without a word of what it says.

    What a `DatabaseError` says is ours, and holds no values.
    """
    if isinstance(error, DatabaseError):
        return "; ".join(str(problem) for problem in error.problems)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
