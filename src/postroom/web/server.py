"""Open the listening socket, and configure the HTTP server: trusted proxies and timeouts."""

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
from postroom.web.clients import ClientLimit
from postroom.web.http import HEAD_LIMIT

CLIENT_TIMEOUT = 20.0
"""Seconds in which a request must be complete, and in which a client must accept more data."""
_CONNECTIONS = 512
# Seconds between two requests of a connection. A proxy must be the side that closes it: if the
# server closes it at the same moment, a request is lost. Caddy waits two minutes, nginx one.
_KEEP_ALIVE, _KEEP_ALIVE_PROXY = 5, 125
_SHUTDOWN_TIMEOUT = 10
"""Seconds that open requests have to finish once the server is told to stop."""


def parse_trusted_proxies(networks: Iterable[str]) -> tuple[str, ...]:
    """Return the networks of trusted proxies, normalised.

    Raises `UseError` for text that is not a network, and for a network that contains every IP
    address: a client in a trusted network may claim to have any IP address.
    """
    parsed, problems = [], []
    for text in networks:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            problems.append(_wrong_network(text, "is not a network"))
            continue
        if network.prefixlen == 0:
            problems.append(_wrong_network(text, "would trust every client"))
        parsed.append(str(network))
    if problems:
        raise UseError(problems)
    return tuple(parsed)


def _wrong_network(text: str, message: str) -> Problem:
    hint = "write the IP address or network of the proxy, such as 127.0.0.1 or 10.0.0.0/24"
    return Problem("--proxy", message=f"'{text}' {message}", hint=hint)


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 means any free port.

    Raises `UseError` if the port is in use or `host` is not an address of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except OSError as error:
        reason = (error.strerror or "unknown error").partition(" (while")[0].lower()
        message = f"cannot listen on {host} port {port}: {reason}"
        hint = "choose another --host or --port"
        raise UseError([Problem("serve", message=message, hint=hint)]) from None
    # Otherwise each response on an open connection waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_server(
    app: ASGIApp, proxies: Iterable[str] = (), client_timeout: float = CLIENT_TIMEOUT
) -> uvicorn.Server:
    """Return a server for `app` that logs nothing itself and trusts only the `proxies`.

    `proxies` are the networks that `parse_trusted_proxies` returned. The method `run` of the server
    takes the listening sockets, and returns after SIGINT or SIGTERM. `client_timeout` is in
    seconds.
    """
    networks = tuple(proxies)
    if networks:
        app = ProxyHeadersMiddleware(app, list(networks))  # type: ignore[arg-type,assignment]
    for name in ("uvicorn.error", "asyncio"):
        # Their log lines hold requests, and their tracebacks values.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_limited_protocol(client_timeout, ClientLimit(networks)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Environment variables could set these two to trust every client.
            proxy_headers=False,
            forwarded_allow_ips=[],
            h11_max_incomplete_event_size=HEAD_LIMIT,
            limit_concurrency=_CONNECTIONS,
            backlog=_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_PROXY if networks else _KEEP_ALIVE,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        )
    )


def _limited_protocol(seconds: float, clients: ClientLimit) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol class for HTTP/1.1, with limits for slow and greedy clients.

    It ends a connection if the client takes more than `seconds` to send a request, or to go on
    reading a response, or if it has more connections than `clients` allows.
    """

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._peer = str((transport.get_extra_info("peername") or ("",))[0])
            if not clients.enter(self._peer):
                transport.abort()
            self._request_deadline = _Deadline(seconds, self.loop, transport)
            self._write_deadline = _Deadline(seconds, self.loop, transport)
            self._request_deadline.start()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:
                self._request_deadline.start()
            else:
                self._request_deadline.stop()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_deadline.start()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._write_deadline.stop()

        def connection_lost(self, exc: Exception | None) -> None:
            clients.leave(self._peer)
            self._request_deadline.stop()
            self._write_deadline.stop()
            super().connection_lost(exc)

    return LimitedProtocol


@define
class _Deadline:
    """A timer that closes a connection unless it is stopped within `seconds`."""

    seconds: float
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer unless it is running."""
        if self.timer is None:
            self.timer = self.loop.call_later(self.seconds, self.transport.abort)

    def stop(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
