"""`postroom check --links`: the requests, their number, and the findings about the responses."""

from __future__ import annotations

import http.server
import itertools
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from attrs import field, frozen

from postroom.lint.external_links import (
    CACHE_LIFETIME,
    HostThrottle,
    LinkChecker,
    NetworkAddress,
    is_public,
    load_link_cache,
)
from tests.support.site import POST, CommandResult, MakeSite

Run = Callable[..., CommandResult]
ANSWERS = {"/gone.png": 410, "/missing": 404, "/broken": 500, "/private": 403, "/busy": 429}
MOVES = {"/moved": "/well", "/lost": "/missing", "/round": "/round", "/away": "gopher://x/",
         "/town": "/Köln".encode().decode("latin-1")}  # fmt: skip


@frozen
class Site:
    """A local web server and the requests that it received."""

    url: str
    requests: list[str] = field(factory=list)


@contextmanager
def serving() -> Iterator[Site]:
    """Run a web server that answers by the tables above; `/get` does not support HEAD."""
    questions: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            questions.append(f"{self.command} {self.path}")
            status = 302 if self.path in MOVES else ANSWERS.get(self.path, 200)
            if self.path == "/get" and self.command == "HEAD":
                status = 405
            self.send_response(status)
            if self.path in MOVES:
                self.send_header("Location", MOVES[self.path])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield Site(url, questions)


@contextmanager
def running(server: socketserver.TCPServer) -> Iterator[str]:
    """Run `server` for the length of the block and yield its URL."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Site]:
    """Return a running web server."""
    with serving() as site:
        yield site


def loopback(address: NetworkAddress) -> bool:
    """Allow requests to this machine and to no other."""
    return address.is_loopback


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Move the clock by `seconds`."""
        self.slept.append(seconds)
        self.now += seconds


def web() -> LinkChecker:
    """Return a checker that requests from this machine and never waits."""
    return LinkChecker(HostThrottle(lambda: 0.0, lambda _: None), loopback)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/well", ""),
        ("/well?a=1&b=2", ""),
        ("", ""),
        ("/get", ""),
        ("/private", ""),
        ("/busy", ""),
        ("/moved", ""),
        ("/gone.png", "responds 410 Gone"),
        ("/missing", "responds 404 Not Found"),
        ("/broken", "responds 500 Internal Server Error"),
        ("/lost", "responds 404 Not Found"),
        ("/round", "redirects more than 5 times"),
        ("/away", "does not redirect to a web page"),
    ],
)
def test_the_response_decides_whether_a_link_works(server: Site, path: str, fault: str) -> None:
    """A page behind a redirect or a refusal of programs works; other failures are reported."""
    assert web().fault(server.url + path) == fault


def test_head_comes_before_get(server: Site) -> None:
    """A page is requested with HEAD first, and with GET only if HEAD fails."""
    web().faults([f"{server.url}/well"])
    assert server.requests == ["HEAD /well"]
    web().faults([f"{server.url}/get", f"{server.url}/missing"])
    assert sorted(server.requests[1:]) == [
        "GET /get", "GET /missing", "HEAD /get", "HEAD /missing",
    ]  # fmt: skip


def test_an_unreachable_host_is_reported(server: Site) -> None:
    """An unknown name, a closed port and a host without TLS are reported in a few words."""
    port = server.url.rpartition(":")[2]
    faults = web().faults(
        ["http://nobody.invalid/", "http://127.0.0.1:1/", f"https://127.0.0.1:{port}/"]
    )
    assert faults["http://nobody.invalid/"] == "has an unknown host"
    assert faults["http://127.0.0.1:1/"] == "does not respond: connection refused"
    assert faults[f"https://127.0.0.1:{port}/"].startswith("is not secure: ")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "fd00::1", "0.1.2.3",
     "100.64.0.1", "224.0.0.1", "::ffff:127.0.0.1"],
)  # fmt: skip
def test_no_internal_machine_is_public(address: str) -> None:
    """No request goes to the machine, its network or a cloud's metadata service."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_hosts_of_the_internet_are_public(address: str) -> None:
    """Hosts of the public internet may receive requests."""
    assert is_public(ip_address(address))


def test_this_machine_gets_no_request(server: Site) -> None:
    """Neither an IP address nor a name of this machine gets a request by default."""
    port = server.url.rpartition(":")[2]
    guarded = LinkChecker(HostThrottle(lambda: 0.0, lambda _: None))
    for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"):
        assert guarded.fault(f"http://{host}:{port}/well") in {
            "leads to this computer or a private network", "has an unknown host",
        }  # fmt: skip
    assert server.requests == []


def test_a_redirect_into_this_machine_is_not_followed(server: Site) -> None:
    """The target of a redirect is checked as strictly as the link itself."""
    admitted = iter([True, False])
    once = LinkChecker(HostThrottle(lambda: 0.0, lambda _: None), lambda _: next(admitted))
    assert once.fault(f"{server.url}/moved") == "leads to this computer or a private network"
    assert server.requests == ["HEAD /moved"]


def test_a_host_gets_one_request_a_second() -> None:
    """Requests to one host are a second apart; other hosts do not wait."""
    clock = Clock()
    pace = HostThrottle(lambda: clock.now, clock.sleep)
    for host in ("a.example", "b.example", "a.example", "a.example", "b.example"):
        pace.wait(host)
    assert clock.slept == [1.0, 1.0]
    clock.now += 10
    pace.wait("a.example")
    assert clock.slept == [1.0, 1.0]


def test_a_real_server_gets_one_request_a_second(server: Site) -> None:
    """HEAD and GET count as two requests, and so does each step of a redirect."""
    clock = Clock()
    paced = LinkChecker(HostThrottle(lambda: clock.now, clock.sleep), loopback)
    assert paced.fault(f"{server.url}/missing") == "responds 404 Not Found"
    assert paced.fault(f"{server.url}/moved") == ""
    assert (len(server.requests), clock.slept) == (4, [1.0, 1.0, 1.0])


def test_images_and_enclosures_are_requested(
    make_site: MakeSite, server: Site, postroom: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote lead image or enclosure is reported with the line of its key."""
    monkeypatch.setattr("postroom.cli.check.make_link_checker", web)
    url = server.url
    head = f"image: {{src: {url}/missing.png, alt: A}}\n"
    head += f"enclosure: {{url: {url}/gone.png, type: image/png, length: 1}}\ntopics"
    folder = make_site({"posts/a.md": POST.replace("topics", head)})
    outcome = postroom(folder, "check", "--links")
    found = [line.partition(";")[0] for line in outcome.warnings if "outside" in line]
    assert found == [f"posts/a.md:7: enclosure: '{url}/gone.png' responds 410 Gone"]


# Hostile hosts.


@contextmanager
def serving_raw(answer: Callable[[socket.socket, bytes], None]) -> Iterator[Site]:
    """Run a server that reads a request and then calls `behave`."""
    questions: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            question = self.request.recv(4096)
            questions.append(question.partition(b" HTTP")[0].decode("latin-1"))
            with suppress(OSError):
                answer(self.request, question)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with running(Server(("127.0.0.1", 0), Handler)) as url:
        yield Site(url, questions)


def hangs(connection: socket.socket, _question: bytes) -> None:
    """Send nothing until the client disconnects."""
    connection.recv(1)


def drips(connection: socket.socket, _question: bytes) -> None:
    """Send one byte at a time without end."""
    for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\nA: b\r\n"):
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def informs(connection: socket.socket, _question: bytes) -> None:
    """Send `100 Continue` without end."""
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 99)


def endless_header(connection: socket.socket, _question: bytes) -> None:
    """Begin a response whose header has no end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 9_000))


def garbles(connection: socket.socket, _question: bytes) -> None:
    """Send bytes that are not HTTP."""
    connection.sendall(b"\0\xff" * 9_000 + b"\r\n\r\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (hangs, "does not respond within 0 seconds"),
        (drips, "does not respond within 0 seconds"),
        (informs, "does not respond within 0 seconds"),
        (endless_header, "does not respond with HTTP"),
        (garbles, "does not respond with HTTP"),
    ],
)
def test_no_host_delays_a_run(
    answer: Callable[[socket.socket, bytes], None], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that hangs or never ends its response is given up after the time limit."""
    if fault.startswith("does not respond within"):
        monkeypatch.setattr("postroom.lint.external_links._TIMEOUT", 0.3)
    with serving_raw(answer) as site:
        began = time.monotonic()
        found = web().faults([f"{site.url}/{number}" for number in range(30)])
        assert time.monotonic() - began < 9
    assert {reported for reported in found.values() if not reported.startswith(fault)} == set()
    if fault.startswith("does not respond within"):
        # Eight requests run at once; none is repeated after the host was found silent.
        assert len(site.requests) <= 16


def greets(connection: socket.socket, _question: bytes) -> None:
    """Begin a TLS handshake and never finish it."""
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
    while True:
        connection.sendall(b"\x03")
        time.sleep(0.02)


def test_no_handshake_delays_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit of a host includes the TLS handshake."""
    monkeypatch.setattr("postroom.lint.external_links._TIMEOUT", 0.3)
    with serving_raw(greets) as site:
        began = time.monotonic()
        secure = site.url.replace("http:", "https:")
        assert web().fault(f"{secure}/") == "does not respond within 0 seconds"
        assert time.monotonic() - began < 9


@pytest.mark.slow
def test_a_host_that_redirects_to_a_silent_one_is_not_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that redirects to a silent one still gets requests."""
    monkeypatch.setattr("postroom.lint.external_links._TIMEOUT", 2.0)
    with serving_raw(hangs) as site, serving() as working:
        monkeypatch.setitem(MOVES, "/there", f"{site.url}/")
        asking = web()
        assert asking.fault(f"{working.url}/there") == "does not respond within 2 seconds"
        assert asking.fault(f"{working.url}/well") == ""
        assert asking.fault(f"{site.url}/other") == "does not respond within 2 seconds"
        assert site.requests == ["HEAD /", "GET /"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_ten_gigabytes_are_not_read(method: str) -> None:
    """Of an endless page only the bytes already on the way are read."""
    sent = []

    def pours(connection: socket.socket, question: bytes) -> None:
        status = b"200 OK" if question.startswith(method.encode()) else b"405 No"
        connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 10000000000\r\n\r\n" % status)
        while status == b"200 OK":
            sent.append(connection.send(b"x" * 65_536))

    with serving_raw(pours) as site:
        assert web().fault(f"{site.url}/film.mp4") == ""
        assert site.requests[-1] == f"{method} /film.mp4"
    assert sum(sent) < 50_000_000


def test_a_redirect_may_contain_any_characters(server: Site) -> None:
    """Bytes outside ASCII in a redirect are encoded, as browsers do."""
    assert web().fault(f"{server.url}/town") == ""
    assert server.requests == ["HEAD /town", "HEAD /K%C3%B6ln"]


@pytest.mark.slow
def test_hostile_hosts_do_not_stop_the_check(
    make_site: MakeSite, postroom: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command reports each link to a host that hangs, and continues."""
    monkeypatch.setattr("postroom.lint.external_links._TIMEOUT", 2.0)
    monkeypatch.setattr("postroom.cli.check.make_link_checker", web)
    with serving_raw(hangs) as site, serving() as working:
        links = (
            f"[Our past]({site.url}/) [Our year]({working.url}/round) [Us]({working.url}/busy)\n"
        )
        folder = make_site({"posts/a.md": f"{POST}\n{links}"})
        outcome = postroom(folder, "check", "--links", "--format", "json")
    found = [
        finding for finding in json.loads(outcome.out)["findings"] if "outside" in finding["rule"]
    ]
    assert [(finding["line"], finding["what"].partition("' ")[2]) for finding in found] == [
        (11, "does not respond within 2 seconds"),
        (11, "redirects more than 5 times"),
    ]
    assert outcome.code == 0


@pytest.fixture
def posts_with_links(make_site: MakeSite, server: Site) -> Path:
    """Return a site whose post links to the server."""
    text = POST + (
        f"\nSee [our report]({server.url}/well#part), [our past]({server.url}/missing),\n"
        f"[the same]({server.url}/missing) and ![a plan]({server.url}/gone.png).\n"
    )
    return make_site(
        {"posts/a.md": text}, "checks: {post-image-pixels: off, email-preheader: off}\n"
    )


def test_external_links_are_requested_on_demand(posts_with_links: Path, server: Site, postroom: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Only --links makes requests; each URL is requested once and reported at each place."""
    assert postroom(posts_with_links, "check").err == ""
    assert server.requests == []
    assert not (posts_with_links / ".postroom").exists()
    monkeypatch.setattr("postroom.cli.check.make_link_checker", web)
    outcome = postroom(posts_with_links, "check", "--links")
    url = server.url
    assert (outcome.code, outcome.out) == (0, "0 errors, 3 warnings\n")
    repair = "correct the link, or remove it [post-link-outside]"
    assert outcome.warnings == [
        f"posts/a.md:11:{31 + len(url)}: '{url}/missing' responds 404 Not Found; {repair}",
        f"posts/a.md:12:1: '{url}/missing' responds 404 Not Found; {repair}",
        f"posts/a.md:12:{26 + len(url)}: '{url}/gone.png' responds 410 Gone; {repair}",
    ]
    assert sorted(server.requests) == [
        "GET /gone.png", "GET /missing", "HEAD /gone.png", "HEAD /missing", "HEAD /well",
    ]  # fmt: skip


def test_working_links_are_not_requested_again(posts_with_links: Path, server: Site, postroom: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A second run requests only broken links; after a week it requests all."""
    monkeypatch.setattr("postroom.cli.check.make_link_checker", web)
    file = posts_with_links / ".postroom/links.json"
    postroom(posts_with_links, "check", "--links")
    answered = json.loads(file.read_bytes())
    assert list(answered) == [f"{server.url}/well"]
    # Each call starts at the same instant.
    file.write_text(json.dumps({url: time - 60 for url, time in answered.items()}))
    server.requests.clear()
    assert postroom(posts_with_links, "check", "--links").out == "0 errors, 3 warnings\n"
    assert "HEAD /well" not in server.requests
    assert len(server.requests) == 4
    cached = json.loads(file.read_bytes())
    file.write_text(json.dumps({url: time - CACHE_LIFETIME - 1 for url, time in cached.items()}))
    server.requests.clear()
    postroom(posts_with_links, "check", "--links")
    assert "HEAD /well" in server.requests


def test_findings_do_not_need_the_cache(
    posts_with_links: Path, postroom: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings are reported even if the cache cannot be written."""
    monkeypatch.setattr("postroom.cli.check.make_link_checker", web)
    (posts_with_links / ".postroom").write_text("no folder")
    outcome = postroom(posts_with_links, "check", "--links")
    assert (outcome.code, outcome.out) == (0, "0 errors, 3 warnings\n")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"https://a.example/": "soon"}', '{"https://a.example/": 2e12}',
     '{"https://a.example/": true}', "[" * 100_000, "\udc80"],
)  # fmt: skip
def test_a_damaged_cache_is_ignored(tmp_path: Path, text: str) -> None:
    """A damaged cache means at worst that every link is requested again."""
    file = tmp_path / "links.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert load_link_cache(file, 1e9).ok == {}
    assert load_link_cache(tmp_path / "nothing.json", 1e9).ok == {}
