"""Request limits, error responses and the access log.

A line of the log identifies nobody: it has no token, no email address and no query string. Instead
of the client's IP address it has only the network (/24 of IPv4; /64 of IPv6, which a household or
an office shares).
"""

from __future__ import annotations

import ipaddress
import traceback
from collections.abc import Mapping
from datetime import datetime
from time import perf_counter
from urllib.parse import quote

from attrs import Factory, define, frozen
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.errors import DatabaseError
from postroom.web.clients import ClientLimit
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
# Longer than any name of ours; a longer segment of an unknown path may be a token.
_MAX_SHOWN = 15
# With these the path is that of a file, so its name is public.
_FOUND = {200, 206, 301, 304, 410, 416}


@frozen
class AccessLogEntry:
    """A request and its response; `path` is None if it was refused as unsafe.

    A `status` of 0 means that the connection ended before there was a response.
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
        path = printable_path(self.path, found=self.status in _FOUND)
        status = self.status or "gone"
        duration = f"{self.milliseconds:.0f} ms"
        return f"{at} {truncate_network(self.client)} {self.method} {path} {status} {duration}"


def truncate_network(client: str) -> str:
    """Return the /24 or /64 network of `client`, or `-` if `client` is not an IP address."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return "-"
    mapped = getattr(address, "ipv4_mapped", None) or address
    length = 24 if mapped.version == 4 else 64
    return str(ipaddress.ip_network((mapped, length), strict=False))


def printable_path(path: str | None, *, found: bool) -> str:
    """Return `path` for the log, without segments that may be a token or an email address.

    Below `/list/` only the name of the page is shown. A path that was `found` names a public file
    and is shown in full. In any other path, long segments and those with an `@` are hidden.
    """
    if path is None:
        return _HIDDEN
    if path.startswith(SERVICE):
        name, slash, rest = path.removeprefix(SERVICE).partition("/")
        return f"{SERVICE}{_shorten(name)}{slash}{_HIDDEN if rest else ''}"
    segments = path.split("/")
    return "/".join(quote(segment) if found else _shorten(segment) for segment in segments)


def _shorten(segment: str) -> str:
    is_private = len(segment) > _MAX_SHOWN or "@" in segment
    return _HIDDEN if is_private else quote(segment)


_RETRY_LATER = {"Retry-After": "60"}
_CLOSE = {"Connection": "close"}


class _TooLongError(Exception):
    """Raised if a request exceeds a limit; `status` is the HTTP status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@define
class _Exchange:
    """The ASGI messages of one request and its response."""

    receive: Receive
    send: Send
    headers: Mapping[str, str]
    received: int = 0
    status: int = 0

    async def receive_limited(self) -> Message:
        """Receive an ASGI message; raise `_TooLongError` if the body so far exceeds the limit."""
        message = await self.receive()
        self.received += len(message.get("body", b""))
        if self.received > BODY_LIMIT:
            raise _TooLongError(413)  # RFC 9110 §15.5.14
        return message

    async def send_with_headers(self, message: Message) -> None:
        """Send an ASGI message of the response, with the default headers added."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self.headers.items():
                headers.setdefault(name, value)
        await self.send(message)


@frozen
class Middleware:
    """ASGI middleware that adds request limits, error pages and the access log to `app`."""

    app: ASGIApp
    prefixes: tuple[str, ...]
    pages: ServicePages
    deps: AppDeps
    clients: ClientLimit = Factory(ClientLimit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request and log it; the server is configured to send no other scopes."""
        start, path = perf_counter(), decode_path(scope["raw_path"])
        variants = path_variants(path, self.prefixes) if path else ()
        # A refused path may hold a token, too, so it gets the headers of the service.
        headers = default_headers(variants[0] if variants else SERVICE, https=_is_https(scope))
        exchange = _Exchange(receive, send, headers)
        try:
            await self._respond(scope, variants, exchange)
        except ClientDisconnect:
            exchange.status = 0
        except Exception as error:  # noqa: BLE001 - a server's traceback would hold tokens
            await self._respond_to_error(scope, exchange, error)
        duration = (perf_counter() - start) * 1000
        self.deps.log(str(self._log_entry(scope, variants, exchange.status, duration)))

    def _log_entry(
        self, scope: Scope, variants: tuple[str, ...], status: int, duration: float
    ) -> AccessLogEntry:
        client = _client(scope)
        method = scope["method"] if scope["method"] in METHODS else "?"
        path = variants[0] if variants else None
        return AccessLogEntry(self.deps.clock(), client, method, path, status, duration)

    async def _respond(self, scope: Scope, variants: tuple[str, ...], exchange: _Exchange) -> None:
        with self.clients.counted(_client(scope)) as is_within_limit:
            await self._respond_within(scope, variants, exchange, is_within_limit=is_within_limit)

    async def _respond_within(
        self,
        scope: Scope,
        variants: tuple[str, ...],
        exchange: _Exchange,
        *,
        is_within_limit: bool,
    ) -> None:
        app: ASGIApp = self.app
        if _has_ambiguous_length(scope):
            app = PlainTextResponse("The length of the request is ambiguous.\n", 400, _CLOSE)
        elif not is_within_limit:
            # RFC 6585 §4
            app = PlainTextResponse("Too many requests at a time.\n", 429, _RETRY_LATER)
        elif _head_length(scope) > HEAD_LIMIT:
            raise _TooLongError(431)  # RFC 6585 §5
        elif scope["method"] not in METHODS:
            app = not_allowed(", ".join(METHODS))
        elif not variants:
            app = HTMLResponse(self.pages.missing, 404)
        elif _body_length(scope) > BODY_LIMIT:
            raise _TooLongError(413)
        path = variants[0] if variants else "/"
        inner = {**scope, "path": path, PATH_VARIANTS: variants}
        await app(inner, exchange.receive_limited, exchange.send_with_headers)

    async def _respond_to_error(self, scope: Scope, exchange: _Exchange, error: Exception) -> None:
        if not isinstance(error, _TooLongError):
            self.deps.log(f"error: {_describe(error)}")
        if exchange.status:
            # The response has begun, so the server can only end the connection.
            return
        response = self._error_response(error)
        await response(scope, exchange.receive, exchange.send_with_headers)

    def _error_response(self, error: Exception) -> Response:
        if isinstance(error, _TooLongError):
            return PlainTextResponse("The request is too long.\n", error.status, _CLOSE)
        if isinstance(error, DatabaseError):
            return HTMLResponse(self.pages.busy, 503, _RETRY_LATER)
        return HTMLResponse(self.pages.failed, 500)


def _client(scope: Scope) -> str:
    """Return the IP address of the client; behind a trusted proxy, the one that the proxy names."""
    return str((scope.get("client") or ("",))[0])


def _has_ambiguous_length(scope: Scope) -> bool:
    """Tell whether a proxy may see another end of the request than we do (RFC 9112 §6.1).

    Content-Length beside Transfer-Encoding may smuggle a second request past the proxy.
    """
    headers = Headers(scope=scope)
    is_chunked = "transfer-encoding" in headers
    return is_chunked and ("content-length" in headers or scope["http_version"] == "1.0")


def _is_https(scope: Scope) -> bool:
    return bool(scope["scheme"] == "https")


def _head_length(scope: Scope) -> int:
    fields = sum(len(name) + len(value) for name, value in scope["headers"])
    return fields + len(scope["raw_path"]) + len(scope["query_string"])


def _body_length(scope: Scope) -> int:
    """Return the Content-Length of the request, which the server has already validated."""
    return int(Headers(scope=scope).get("content-length", "0"))


def _describe(error: Exception) -> str:
    """Return the type of `error` and where it was raised, but not its text.

    The text of an error may contain a token. Only the text of a `DatabaseError` is included, since
    we write it ourselves and put no values into it.
    """
    if isinstance(error, DatabaseError):
        return "; ".join(str(problem) for problem in error.problems)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
