"""The socket and the server on it: whom it trusts, and how long it waits."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterable

import h11
import uvicorn
from attrs import define
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from postroom.errors import Problem, UseError
from postroom.web.http import HEAD_LIMIT

SHUTDOWN_TIMEOUT = 20.0
"""Seconds in which a request must be complete, and in which a part of the answer must be taken."""
_CONNECTIONS = 512
# Between two requests of a connection. A proxy must be the one to end it: if both do at the same
# moment, somebody's click is lost. Caddy waits two minutes, nginx one.
_IDLE, _IDLE_PROXY = 5, 125
_LAST_WORDS = 10
"""Seconds that open requests have to end once the server is told to stop."""


def parse_trusted_proxies(networks: Iterable[str]) -> tuple[str, ...]:
    """Return the networks of proxies, checked.

    Raises `UseError` for what is no network, and for the whole world: whoever comes from a trusted
    address may say that they are anybody.
    """
    found, problems = [], []
    for text in networks:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            problems.append(_untrusted(text, "is no network"))
            continue
        if network.prefixlen == 0:
            problems.append(_untrusted(text, "would trust everybody"))
        found.append(str(network))
    if problems:
        raise UseError(problems)
    return tuple(found)


def _untrusted(text: str, what: str) -> Problem:
    repair = "write the proxy's address or network, such as 127.0.0.1 or 10.0.0.0/24"
    return Problem("--proxy", message=f"'{text}' {what}", hint=repair)


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one. Raises `UseError`."""
    try:
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=kind, backlog=_CONNECTIONS)
    except OSError as error:
        reason = (error.strerror or "cannot be had").partition(" (while")[0].lower()
        what = f"cannot listen on {host} port {port}: {reason}"
        raise UseError([Problem("serve", message=what, hint="choose --host and --port")]) from None
    # Else each answer on an open connection waits 40 ms for the client's sign of life.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_server(
    app: ASGIApp, proxies: Iterable[str] = (), patience: float = SHUTDOWN_TIMEOUT
) -> uvicorn.Server:
    """Return a server for `app`, which says nothing itself and trusts no field of a stranger's.

    `proxies` come from `trusted`. Its `run` takes the sockets, and ends on SIGINT and SIGTERM.
    """
    if networks := list(proxies):
        app = ProxyHeadersMiddleware(app, networks)  # type: ignore[arg-type,assignment]
    for name in ("uvicorn.error", "asyncio"):
        # Their lines hold requests, and their traces values.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_impatient(patience),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # The environment could set these two, to trust everybody.
            proxy_headers=False,
            forwarded_allow_ips=[],
            h11_max_incomplete_event_size=HEAD_LIMIT,
            limit_concurrency=_CONNECTIONS,
            backlog=_CONNECTIONS,
            timeout_keep_alive=_IDLE_PROXY if networks else _IDLE,
            timeout_graceful_shutdown=_LAST_WORDS,
        )
    )


def _impatient(patience: float) -> type[asyncio.Protocol]:
    """Return HTTP/1.1 that ends the connection of who takes too long to ask, or to listen."""

    class Impatient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._asking = _Deadline(patience, self.loop, transport)
            self._listening = _Deadline(patience, self.loop, transport)
            self._asking.start()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:
                self._asking.start()
            else:
                self._asking.stop()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._listening.start()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._listening.stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._asking.stop()
            self._listening.stop()
            super().connection_lost(exc)

    return Impatient


@define
class _Deadline:
    """Ends a connection, unless it is stopped in time."""

    seconds: float
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Let the time begin, unless it has begun."""
        if self.timer is None:
            self.timer = self.loop.call_later(self.seconds, self.transport.abort)

    def stop(self) -> None:
        """Let the time end."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
