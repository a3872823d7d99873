"""What every request passes: limits on its way in, header fields and a line on its way out.

Whatever fails behind the gate becomes a page and a line of the journal that names the kind of fault
and its place, nothing else: a trace holds values, and a value may be somebody's token.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from time import perf_counter

from attrs import define, frozen
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.errors import DatabaseError
from postroom.web.fields import BODY_LIMIT, HEAD_LIMIT, METHODS, fields
from postroom.web.journal import Entry
from postroom.web.outside import Outside
from postroom.web.pages import Pages
from postroom.web.paths import SERVICE, plain, readings
from postroom.web.public import READINGS, not_allowed

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
class Gate:
    """Lets requests through to `app`."""

    app: ASGIApp
    prefixes: tuple[str, ...]
    pages: Pages
    outside: Outside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of HTTP; there is nothing else here."""
        began, path = perf_counter(), plain(scope["raw_path"])
        meant = readings(path, self.prefixes) if path else ()
        # What is refused for its path may hold a token, too.
        dress = fields(meant[0] if meant else SERVICE, https=scope["scheme"] == "https")
        exchange = _Exchange(receive, send, dress)
        try:
            await self._answer(scope, meant, exchange)
        except ClientDisconnect:
            exchange.status = 0
        except Exception as error:  # noqa: BLE001 - nothing may get out: a trace holds tokens
            await self._excuse(scope, exchange, error)
        took = (perf_counter() - began) * 1000
        self.outside.write(str(self._entry(scope, meant, exchange.status, took)))

    def _entry(self, scope: Scope, meant: tuple[str, ...], status: int, took: float) -> Entry:
        client = (scope.get("client") or ("",))[0]
        method = scope["method"] if scope["method"] in METHODS else "?"
        path = meant[0] if meant else None
        return Entry(self.outside.clock(), client, method, path, status, took)

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
        inner = {**scope, "path": path, READINGS: meant}
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
