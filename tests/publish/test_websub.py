"""Notifications of a WebSub hub, over real connections to hubs of all kinds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from attrs import define, field, frozen

from postroom.publish.websub import PingResult, ping_hub
from tests.support.site import POST, CommandResult, MakeSite

FEED = "https://news.example.com/atom.xml"


@frozen
class Response:
    """A response of a hub: a status with headers; status 0 closes the connection in mid-reply."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


@define
class Hub:
    """A hub that gives its responses in order and repeats the last one."""

    answers: list[Response]
    url: str = ""
    requests: list[tuple[str, str, dict[str, list[str]]]] = field(factory=list)

    def next(self) -> Response:
        """Return the next response."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def hub(*answers: Response) -> Iterator[Hub]:
    """Run a hub on a free port of this machine."""
    made = Hub(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            form = parse_qs(self.rfile.read(length).decode(), strict_parsing=True)
            made.requests.append((self.path, self.headers["Content-Type"], form))
            answer = made.next()
            if not answer.status:
                self.wfile.write(b"HTTP/1.1 20")
                return
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            made.requests.append((self.path, "GET", {}))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def closed_port() -> int:
    """Return a port without a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def notify(*answers: Response) -> tuple[PingResult, list[float], Hub]:
    """Return the result of notifying a hub with these responses, the pauses, and the hub."""
    pauses: list[float] = []
    with hub(*answers) as there:
        (result,) = ping_hub(there.url, [FEED], pauses.append)
    return result, pauses, there


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_hub_is_notified_of_a_feed(status: int) -> None:
    """A hub gets the form of WebSub once, and any 2xx is success."""
    result, pauses, there = notify(Response(status))
    assert (result.feed, result.accepted, result.tries, pauses) == (FEED, True, 1, [])
    assert result.detail.startswith(str(status))
    form = {"hub.mode": ["publish"], "hub.url": [FEED]}
    assert there.requests == [("/", "application/x-www-form-urlencoded", form)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_final(status: int) -> None:
    """A refused notification is not repeated."""
    result, pauses, there = notify(Response(status))
    assert (result.accepted, result.tries, pauses, len(there.requests)) == (False, 1, [], 1)
    assert result.detail.startswith(str(status))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_temporary_failure_is_retried(status: int) -> None:
    """A busy hub is notified again after a pause."""
    result, pauses, there = notify(Response(status), Response(204))
    assert (result.accepted, result.tries, pauses, len(there.requests)) == (True, 2, [2.0], 2)


def test_pauses_grow_and_end() -> None:
    """After three tries the last response is reported."""
    result, pauses, there = notify(Response(503))
    assert (result.accepted, result.tries, pauses, len(there.requests)) == (False, 3, [2.0, 4.0], 3)
    assert result.detail == "503 Service Unavailable"


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("7", 7.0),
        ("9999999", 60.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 2.0),
        ("-5", 2.0),
        ("\u00b2", 2.0),
        ("0", 2.0),
        ("", 2.0),
    ],
    ids=["seconds", "too-long", "date", "negative", "superscript", "zero", "empty"],
)
def test_retry_after_is_respected(value: str, pause: float) -> None:
    """Retry-After in seconds is respected up to a minute; any other value is ignored."""
    result, pauses, _ = notify(Response(503, (("Retry-After", value),)), Response(204))
    assert (result.accepted, pauses) == (True, [pause])


def test_a_closed_connection_is_retried() -> None:
    """An incomplete reply is a temporary failure."""
    result, pauses, there = notify(Response(0), Response(204))
    assert (result.accepted, result.tries, pauses, len(there.requests)) == (True, 2, [2.0], 2)
    result, _, _ = notify(Response(0))
    assert (result.accepted, result.detail.startswith("no answer: ")) == (False, True)


def test_a_missing_hub_is_reported() -> None:
    """A hub without a server is tried three times and reported."""
    pauses: list[float] = []
    (result,) = ping_hub(f"http://127.0.0.1:{closed_port()}/", [FEED], pauses.append)
    assert (result.accepted, result.tries, pauses) == (False, 3, [2.0, 4.0])
    assert result.detail == "no answer: [Errno 111] Connection refused"


@pytest.mark.parametrize("address", ["http://hub..example.com/", "http://127.0.0.1:0/"])
def test_an_invalid_hub_url_is_reported(address: str) -> None:
    """A hub URL that allows no connection is reported without a crash."""
    (result,) = ping_hub(address, [FEED], lambda _: None)
    assert (result.accepted, result.detail.startswith("no answer: ")) == (False, True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure(status: int) -> None:
    """A redirect is a failure, because following it would change the kind of request."""
    result, _, there = notify(Response(status, (("Location", "/elsewhere"),)))
    assert (result.accepted, result.tries, len(there.requests)) == (False, 1, 1)
    assert result.detail.startswith(f"{status} ")
    assert result.detail.endswith(": the hub has moved to /elsewhere")


def test_feeds_are_notified_separately() -> None:
    """The hub is notified of the other feeds if it refuses one."""
    with hub(Response(403), Response(204)) as there:
        results = list(ping_hub(there.url, ["https://a.example/1", "https://a.example/2"], print))
        assert [result.accepted for result in results] == [False, True]
        assert [form["hub.url"] for _, _, form in there.requests] == [
            ["https://a.example/1"],
            ["https://a.example/2"],
        ]


def test_all_feeds_are_notified(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """`postroom ping` notifies the hub of every public feed and prints a line for each."""
    with hub(Response(204)) as there:
        folder = make_site({"posts/a.md": POST}, f"feeds: {{hub: '{there.url}'}}\n")
        outcome = postroom(folder, "ping")
    base = "https://news.example.com/"
    topic = base + "topics/company-news/"
    feeds = [
        place + file for place in (base, topic) for file in ("atom.xml", "rss.xml", "feed.json")
    ]
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [f"told: {feed} (204 No Content)" for feed in feeds]
    assert [form["hub.url"] for _, _, form in there.requests] == [[feed] for feed in feeds]


def test_named_feeds_are_notified(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """The hub is notified only of the feeds named by path or URL."""
    with hub(Response(204)) as there:
        folder = make_site({"posts/a.md": POST}, f"feeds: {{hub: '{there.url}'}}\n")
        outcome = postroom(folder, "ping", "topics/company-news/rss.xml", FEED)
    assert outcome.code == 0
    assert [form["hub.url"][0] for _, _, form in there.requests] == [
        "https://news.example.com/topics/company-news/rss.xml",
        FEED,
    ]


def test_a_refused_feed_fails(make_site: MakeSite, postroom: Callable[..., CommandResult]) -> None:
    """A refused feed is an error with exit code 1, and the hub is notified of the others."""
    with hub(Response(403), Response(204)) as there:
        folder = make_site({"posts/a.md": POST}, f"feeds: {{hub: '{there.url}'}}\n")
        outcome = postroom(folder, "ping", "atom.xml", "rss.xml")
    assert outcome.code == 1
    assert outcome.err.splitlines() == [f"failed: {FEED} (403 Forbidden)"]
    assert outcome.out.splitlines() == ["told: https://news.example.com/rss.xml (204 No Content)"]


def test_tries_are_counted(make_site: MakeSite, postroom: Callable[..., CommandResult]) -> None:
    """The line of a feed has the number of tries if there were several."""
    with hub(Response(503, (("Retry-After", "1"),)), Response(204)) as there:
        folder = make_site({"posts/a.md": POST}, f"feeds: {{hub: '{there.url}'}}\n")
        outcome = postroom(folder, "ping", "atom.xml")
    assert outcome.out == f"told: {FEED} (204 No Content after 2 tries)\n"


def test_an_unknown_feed_is_refused(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """For a misspelled feed the right name is suggested, and the hub is not notified."""
    with hub(Response(204)) as there:
        folder = make_site({"posts/a.md": POST}, f"feeds: {{hub: '{there.url}'}}\n")
        outcome = postroom(folder, "ping", "atom.xm", "rss.xml")
    assert (outcome.code, outcome.out, there.requests) == (2, "", [])
    assert outcome.errors == [
        (
            "FEED: 'atom.xm' is not a feed of this site;"
            " see feeds.opml, or did you mean 'https://news.example.com/atom.xml'?"
        )
    ]


def test_a_missing_hub_setting_is_an_error(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """Without feeds.hub there is no hub to notify."""
    outcome = postroom(make_site({"posts/a.md": POST}), "ping")
    assert outcome.code == 2
    assert outcome.errors == ["postroom.yaml: feeds.hub: is missing; set feeds: {hub: https://…}"]
