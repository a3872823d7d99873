"""`postroom serve` in a thread or a process, and an HTTP client for tests."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from attrs import Factory, define, frozen

from postroom.mail.unsubscribe import UnsubscribeStore
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from postroom.web.app import make_app
from postroom.web.http import AppDeps
from postroom.web.pages import render_service_pages
from postroom.web.server import CLIENT_TIMEOUT, make_server, open_socket
from tests.support.processes import Process

LIKE_A_FORM = "application/x-www-form-urlencoded"


class EmptyStore:
    """A store without subscribers."""

    def unsubscribe(self, token: str, at: datetime, way: str) -> bool:
        """Fail: no test with this store may change it."""
        raise AssertionError((token, at, way))


@frozen
class Answer:
    """A response; the names of `fields` are in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes


@define
class Served:
    """A running server; `journal` holds the lines of its log."""

    port: int
    journal: list[str] = Factory(list)

    @property
    def url(self) -> str:
        """The URL of the server, with a slash at the end."""
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: str | bytes | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as client:
            return send_request(client, path, method, body, fields)

    def post(self, path: str, body: str | bytes = "", kind: str = LIKE_A_FORM) -> Answer:
        """Send a form."""
        return self.ask(path, "POST", body, {"Content-Type": kind})

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Open a connection for bytes that no HTTP client would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            yield connection

    def raw(self, request: bytes) -> bytes:
        """Send these bytes with Connection: close and return the whole response."""
        with self.connect() as connection:
            connection.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            return read_all(connection)


def send_request(
    client: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    body: str | bytes | None = None,
    fields: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request on this connection and return the response."""
    client.request(method, path, body, dict(fields or {}))
    response = client.getresponse()
    received = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, received, response.read())


def read_all(connection: socket.socket) -> bytes:
    """Return everything until the other side ends the connection."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


@contextmanager
def serve_site(
    site_dir: Path,
    book: UnsubscribeStore,
    *,
    proxies: Sequence[str] = (),
    client_timeout: float = CLIENT_TIMEOUT,
) -> Iterator[Served]:
    """Serve a site on a free port, as the command does."""
    site = load_settings(site_dir)
    pages = render_service_pages(site, Theme(site_dir, site.language), site_dir)
    listener = open_socket("127.0.0.1", 0)
    served = Served(listener.getsockname()[1])
    outside = AppDeps(book, now, served.journal.append)
    app = make_app(site, site_dir / site.output, pages, outside)
    running = make_server(app, proxies, client_timeout)
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def wait_until_ready(process: Process[str]) -> Served:
    """Return the server of a started command once it listens."""
    assert process.stdout
    line = process.stdout.readline()
    address = re.fullmatch(
        r"http://127\.0\.0\.1:(\d+)/ serves public/ and list/; Ctrl-C .*\n", line
    )
    assert address, line
    return Served(int(address[1]))
