"""The service over real HTTP: unsubscribing, limits, headers and the access log."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import date, datetime
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve

from postroom.db.engine import make_engine
from postroom.db.migrate import require_tables
from postroom.db.store import Store, make_store, open_store
from postroom.errors import PostroomError
from postroom.mail.tokens import new_token
from postroom.mail.unsubscribe import unsubscribe_url
from postroom.models import Cursor, Site, Subscriber, SubscriberEvent
from postroom.settings.site import load_settings
from postroom.web.clients import MOST_PER_CLIENT
from postroom.web.http import BODY_LIMIT, path_variants, url_prefixes
from postroom.web.middleware import printable_path, truncate_network
from postroom.web.server import open_socket, parse_trusted_proxies
from tests.support import postgresql, processes, sites, web_server
from tests.support.processes import Process
from tests.support.site import POST, SETTINGS, CommandResult, MakeSite
from tests.support.web_server import Answer, Served, wait_until_ready

MAIL = "mail: {unsubscribe: https://news.example.com}\n"
ONE_CLICK = "List-Unsubscribe=One-Click"
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'
)
PREFETCHES = [
    {"Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"X-Moz": "prefetch"},
    {"User-Agent": "LinkScanner/1.0", "Range": "bytes=0-9"},
    {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"},
]
STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_numbers = count()


@pytest.fixture(scope="module")
def site_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a built site."""
    folder = tmp_path_factory.mktemp("web") / "site"
    files = {"postroom.yaml": SETTINGS + MAIL, "posts/moved.md": POST}
    sites.build(sites.write(folder, files), folder / "public")
    return folder


@pytest.fixture(scope="module")
def store(site_dir: Path) -> Iterator[Store]:
    """Return the store of the site, on SQLite with a short timeout."""
    database = make_engine(None, site_dir, timeout=0.2)
    require_tables(database)
    with closing(database):
        yield make_store(database)


@pytest.fixture(scope="module")
def served(site_dir: Path, store: Store) -> Iterator[Served]:
    """Serve the site for all tests of this module."""
    with web_server.serve_site(site_dir, store.subscribers) as running:
        yield running


@pytest.fixture
def subscriber(store: Store) -> Subscriber:
    """Return a new active subscriber."""
    return add_subscriber(store)


def add_subscriber(store: Store) -> Subscriber:
    """Add an active subscriber and return them as stored."""
    newcomer = Subscriber(
        id=0,
        address=f"reader{next(_numbers)}@example.com",
        state="active",
        frequency="month",
        topics=frozenset(),
        language="",
        cursor=Cursor(date(2026, 11, 1)),
        start=date(2026, 11, 1),
        token=new_token(),
    )
    store.subscribers.add([newcomer], web_server.now())
    return reload(store, newcomer)


def reload(store: Store, whose: Subscriber) -> Subscriber:
    """Return a subscriber as stored now."""
    found = store.subscribers.with_token(whose.token)
    assert found
    return found


def path_of(subscriber: Subscriber) -> str:
    """Return the path of a subscriber's unsubscribe page."""
    return f"/list/unsubscribe/{subscriber.token}"


def events_of(store: Store, whose: Subscriber) -> list[SubscriberEvent]:
    """Return the events of a subscriber."""
    return list(store.events.of(whose.id))


def snapshot(store: Store) -> list[tuple[object, ...]]:
    """Return every row of every table that a request could change."""
    tables = ("subscribers", "deliveries", "events", "suppressions")
    with store.database.reading() as connection:
        return [
            tuple(row)
            for table in tables
            for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")  # noqa: S608
        ]


def without_date(answer: Answer) -> tuple[object, ...]:
    """Return an answer without its Date header."""
    fields = {name: value for name, value in answer.fields.items() if name != "date"}
    return answer.status, fields, answer.body


# Unsubscribing


def test_url_of_emails_is_the_page(served: Served, site_dir: Path, subscriber: Subscriber) -> None:
    """The URL in an email leads to a page with one button."""
    address = unsubscribe_url(load_settings(site_dir), subscriber.token)
    answer = served.ask(address.removeprefix("https://news.example.com"))
    page = answer.body.decode()
    assert (answer.status, answer.fields["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.count("<button") == page.count("<form") == 1
    assert '<form method="post">' in page


def test_button_unsubscribes(served: Served, store: Store, subscriber: Subscriber) -> None:
    """The form of the page unsubscribes, and the answer says what may still arrive."""
    answer = served.post(path_of(subscriber))
    assert answer.status == 200
    assert "may still arrive" in answer.body.decode()
    assert reload(store, subscriber).state == "unsubscribed"
    (event,) = events_of(store, subscriber)
    assert (event.kind, event.detail) == ("unsubscribed", "page")
    assert abs((web_server.now() - event.at).total_seconds()) < 60


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (ONE_CLICK, "application/x-www-form-urlencoded"),
        (ONE_CLICK, "application/x-www-form-urlencoded; charset=utf-8"),
        (MULTIPART, "multipart/form-data; boundary=b"),
    ],
)
def test_one_click_unsubscribes(
    served: Served, store: Store, subscriber: Subscriber, body: str | bytes, kind: str
) -> None:
    """S5, rule 5: without cookie, token or redirect, urlencoded and multipart (RFC 8058)."""
    answer = served.post(path_of(subscriber), body, kind)
    assert answer.status == 200
    assert not {"set-cookie", "location"} & answer.fields.keys()
    assert reload(store, subscriber).state == "unsubscribed"
    assert [event.detail for event in events_of(store, subscriber)] == ["one click"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", ""),
        (MULTIPART, "multipart/form-data"),
        (b"\xff\xfe\x00", "multipart/form-data; boundary=b; charset=none"),
        ("{", "application/json"),
        ("&&=%%%zz" * 100, "application/x-www-form-urlencoded"),
    ],
)
def test_malformed_body_unsubscribes(
    served: Served, store: Store, subscriber: Subscriber, body: str | bytes, kind: str
) -> None:
    """A POST to the URL unsubscribes, however malformed its body is."""
    assert served.post(path_of(subscriber), body, kind).status == 200
    assert reload(store, subscriber).state == "unsubscribed"


def test_chunked_body_unsubscribes(served: Served, store: Store, subscriber: Subscriber) -> None:
    """A chunked body without a length unsubscribes."""
    head = f"POST {path_of(subscriber)} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = served.raw(head.encode() + b"1a\r\n" + ONE_CLICK.encode() + b"\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert [event.detail for event in events_of(store, subscriber)] == ["one click"]


def test_http_1_0_unsubscribes(served: Served, store: Store, subscriber: Subscriber) -> None:
    """Some proxies still use HTTP/1.0."""
    head = f"POST {path_of(subscriber)} HTTP/1.0\r\nContent-Length: 26\r\n\r\n{ONE_CLICK}"
    answer = served.raw(head.encode())
    assert (answer.split(b" ")[1], reload(store, subscriber).state) == (b"200", "unsubscribed")


def test_expect_continue_is_answered(served: Served, store: Store, subscriber: Subscriber) -> None:
    """A client that sends Expect gets 100 Continue (RFC 9110 §10.1.1)."""
    with served.connect() as connection:
        fields = "Host: x\r\nContent-Length: 26\r\nExpect: 100-continue\r\nConnection: close"
        connection.sendall(f"POST {path_of(subscriber)} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(ONE_CLICK.encode())
        assert web_server.read_all(connection).startswith(b"HTTP/1.1 200 ")
    assert [event.detail for event in events_of(store, subscriber)] == ["one click"]


def test_unsubscribing_again_is_answered_alike(
    served: Served, store: Store, subscriber: Subscriber
) -> None:
    """S4, rule 5: the second click gets the same answer and writes nothing."""
    first, second = (served.post(path_of(subscriber), ONE_CLICK) for _ in range(2))
    assert without_date(first) == without_date(second)
    assert len(events_of(store, subscriber)) == 1


@pytest.mark.parametrize(
    "token",
    [
        "AAAAAAAAAAAAAAAAAAAAAA",
        "short",
        "reader@example.com",
        "x" * 500,
        "'%20OR%201=1%20--",
        "%F0%9F%A7%B2",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_unknown_token_is_answered_as_a_known_one(
    served: Served, store: Store, subscriber: Subscriber, token: str, method: str
) -> None:
    """S6, rule 5: status, headers and body are the same, and nothing changes."""
    before = snapshot(store)
    forged = served.ask(f"/list/unsubscribe/{token}", method)
    assert snapshot(store) == before
    known = served.ask(path_of(subscriber), method)
    assert without_date(forged) == without_date(known)


def test_safe_methods_change_nothing(served: Served, store: Store, subscriber: Subscriber) -> None:
    """S1, rule 6: a thousand GET, HEAD and OPTIONS of link scanners change nothing."""
    before, statuses = snapshot(store), set()
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)) as client:
        for number in range(1000):
            method = ("GET", "HEAD", "OPTIONS")[number % 3]
            fields = PREFETCHES[number % len(PREFETCHES)]
            path = path_of(subscriber) + ("", "?List-Unsubscribe=One-Click")[number % 2]
            statuses.add(
                (method, web_server.send_request(client, path, method, None, fields).status)
            )
    assert statuses == {("GET", 200), ("HEAD", 200), ("OPTIONS", 405)}
    assert snapshot(store) == before


def test_an_open_connection_answers_at_once(served: Served) -> None:
    """No response waits 40 ms for an acknowledgement by the client."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)) as client:
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert web_server.send_request(client, "/list/unsubscribe/x").status == 200
            took.append(time.monotonic() - began)
    assert min(took[1:]) < 0.03


def test_a_get_with_a_body_changes_nothing(
    served: Served, store: Store, subscriber: Subscriber
) -> None:
    """S1: the method decides, whatever the body says."""
    answer = served.ask(path_of(subscriber), "GET", ONE_CLICK)
    assert (answer.status, reload(store, subscriber).state) == (200, "active")


def test_the_page_holds_no_address_and_no_token(served: Served, subscriber: Subscriber) -> None:
    """No answer contains anything of the subscriber: it may be cached, logged or seen."""
    answers = [served.ask(path_of(subscriber)), served.post(path_of(subscriber))]
    for answer in answers:
        text = f"{answer.fields} {answer.body.decode()}"
        assert subscriber.token not in text
        assert "@" not in text.replace("@media", "")


def test_locked_database_is_503(
    served: Served, store: Store, subscriber: Subscriber, site_dir: Path
) -> None:
    """A locked database is a page with 503; the next attempt works."""
    with closing(sqlite3.connect(site_dir / ".postroom/postroom.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        busy = served.post(path_of(subscriber), ONE_CLICK)
        page, site = served.ask(path_of(subscriber)), served.ask("/")
        other.rollback()
    assert (busy.status, busy.fields["retry-after"]) == (503, "60")
    assert "Nothing has changed" in busy.body.decode()
    assert (page.status, site.status) == (200, 200)
    assert reload(store, subscriber).state == "active"
    assert served.post(path_of(subscriber), ONE_CLICK).status == 200
    assert reload(store, subscriber).state == "unsubscribed"


def test_restarted_database_loses_no_click(
    site_dir: Path, tmp_path: Path, postgresql_server: postgresql.Server
) -> None:
    """After a restart of the database server the change is tried again at once."""
    store = open_store(postgresql_server.emptied(), tmp_path)
    subscriber = add_subscriber(store)
    with closing(store.database), web_server.serve_site(site_dir, store.subscribers) as running:
        for _ in range(2):
            postgresql_server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            assert running.post(path_of(subscriber), ONE_CLICK).status == 200
        assert reload(store, subscriber).state == "unsubscribed"


class _BrokenStore:
    """A store that always fails."""

    def unsubscribe(self, token: str, at: datetime, way: str) -> bool:
        """Fail with an error that holds private data."""
        raise ValueError(f"{token} of reader@example.com at {at} by {way}")


def test_internal_error_is_a_page_and_a_line(site_dir: Path, subscriber: Subscriber) -> None:
    """S20: the log has type and place of the error, no traceback and no token."""
    with web_server.serve_site(site_dir, _BrokenStore()) as running:
        answer = running.post(path_of(subscriber))
        assert running.ask(path_of(subscriber)).status == 200
    assert answer.status == 500
    assert b"The problem is on our side" in answer.body
    fault, line = running.journal[:2]
    assert re.fullmatch(r"error: ValueError at test_service\.py:\d+", fault)
    assert "POST /list/unsubscribe/… 500" in line


# Prefixes


@pytest.mark.parametrize(
    ("url", "unsubscribe"),
    [
        ("https://example.com/news/", "https://example.com/news"),
        ("https://news.example.com/", "https://example.com/news"),
        ("https://example.com/news/", "https://list.example.com"),
    ],
)
def test_prefix_may_be_kept_or_removed(
    tmp_path: Path, store: Store, url: str, unsubscribe: str
) -> None:
    """A proxy that forwards /news/ may keep or remove the prefix."""
    settings = SETTINGS.replace("https://news.example.com/", url)
    settings += f"mail: {{unsubscribe: {unsubscribe!r}}}\n"
    files = {"postroom.yaml": settings, "posts/moved.md": POST}
    folder = sites.write(tmp_path, files)
    sites.build(folder, folder / "public")
    with web_server.serve_site(folder, store.subscribers) as running:
        for prefix in ("/news", ""):
            page = running.ask(f"{prefix}/list/unsubscribe/x").body.decode()
            style = re.findall(r'rel="stylesheet" href="([^"]*)"', page)
            assert [running.ask(address).status for address in style] == [200]
            assert running.ask(f"{prefix}/posts/moved/").status == 200
            moved = running.ask(f"{prefix}/posts/moved")
            assert (moved.status, moved.fields["location"]) == (301, "./moved/")


def test_prefix_may_be_encoded(site: Site) -> None:
    """A path beyond ASCII is the same, percent-encoded or not."""
    other = evolve(site, url="https://example.com/caf%C3%A9/")
    assert path_variants("/café/a/", url_prefixes(other)) == ("/a/", "/café/a/")


def test_longest_prefix_is_removed_first() -> None:
    """The variant without the longest prefix comes first."""
    assert path_variants("/news/a/", ("/", "/news/")) == ("/a/", "/news/a/")
    assert path_variants("/newsletter/", ("/", "/news/")) == ("/newsletter/",)


# Header fields and methods


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_token_pages_have_strict_headers(
    served: Served, subscriber: Subscriber, method: str
) -> None:
    """S18: no script, frame, cache, referrer or index; HSTS only over HTTPS."""
    fields = served.ask(path_of(subscriber), method).fields
    assert fields["content-security-policy"] == STRICT
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["cache-control"] == "no-store"
    assert fields["referrer-policy"] == "no-referrer"
    assert fields["x-robots-tag"] == "noindex"
    assert not {"strict-transport-security", "set-cookie", "server"} & fields.keys()


@pytest.mark.parametrize("path", ["/", "/atom.xml", "/no/such/page", "/list/none", "/%2e%2e/x"])
def test_every_answer_forbids_scripts(served: Served, path: str) -> None:
    """S18: also that of a file, and that of a missing page."""
    fields = served.ask(path).fields
    policy = fields["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "script" not in policy
    assert fields["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get", "X"]
)
@pytest.mark.parametrize("path", ["/", "/list/unsubscribe/x", "/no"])
def test_other_methods_are_refused(served: Served, path: str, method: str) -> None:
    """S21: only GET, HEAD and POST are allowed."""
    answer = served.raw(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"allow: GET, HEAD, POST\r\n" in answer


def test_files_refuse_post(served: Served) -> None:
    """S21: files allow only GET and HEAD."""
    answer = served.post("/", "a=b")
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_a_body(served: Served, subscriber: Subscriber) -> None:
    """RFC 9110 §9.3.2: the headers are the same, with the length."""
    for path in (path_of(subscriber), "/", "/atom.xml", "/no"):
        get, head = served.ask(path), served.ask(path, "HEAD")
        assert head.body == b""
        assert (head.status, head.fields["content-length"]) == (get.status, str(len(get.body)))


def test_refused_path_has_strict_headers(served: Served) -> None:
    """S18: a refused path may hold a token, so its answer is not cached."""
    fields = served.ask("/list/unsubscribe/%2Fx").fields
    assert (fields["cache-control"], fields["referrer-policy"]) == ("no-store", "no-referrer")


def test_a_missing_page_of_the_service_is_a_page(served: Served) -> None:
    """An unknown URL below /list/ is a 404 page of the theme."""
    answer = served.ask("/list/nothing/here")
    assert (answer.status, b"Page not found" in answer.body) == (404, True)


# Limits


def test_long_bodies_are_refused(served: Served, store: Store, subscriber: Subscriber) -> None:
    """S21: a body over the limit is refused, announced or not, and changes nothing."""
    long = b"x" * (BODY_LIMIT + 1)
    assert served.post(path_of(subscriber), long).status == 413
    head = f"POST {path_of(subscriber)} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = served.raw(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(long), long))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert reload(store, subscriber).state == "active"
    assert served.post(path_of(subscriber), b"x" * BODY_LIMIT).status == 200


def test_long_content_length_is_refused_at_once(served: Served) -> None:
    """S21: a body announced as too long is refused before it is sent."""
    head = (
        f"POST /list/unsubscribe/x HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n"
    )
    assert served.raw(head.encode()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"\r\n",
        b"POST /list/unsubscribe/%b HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\nList-",
        b"POST /list/unsubscribe/%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
)
def test_slow_clients_are_cut_off(
    site_dir: Path, store: Store, subscriber: Subscriber, beginning: bytes
) -> None:
    """S21: an unfinished request loses the connection and changes nothing."""
    request = beginning.replace(b"%b", subscriber.token.encode())
    with (
        web_server.serve_site(site_dir, store.subscribers, client_timeout=0.3) as running,
        running.connect() as connection,
    ):
        began = time.monotonic()
        for part in (request[:1], request[1:]):
            connection.sendall(part)
        heard = web_server.read_all(connection)
        took = time.monotonic() - began
    assert b"HTTP/1.1 200" not in heard
    assert took < 8
    assert reload(store, subscriber).state == "active"


def test_slow_bytes_do_not_extend_the_time(site_dir: Path, store: Store) -> None:
    """S21: the limit is for the whole request, not for its next byte."""
    with (
        web_server.serve_site(site_dir, store.subscribers, client_timeout=0.5) as running,
        running.connect() as connection,
    ):
        connection.settimeout(0.02)
        sent = 0
        while sent < 200 and _is_open(connection):
            connection.sendall(b"X")
            sent += 1
    assert 1 < sent < 200


def _is_open(connection: socket.socket) -> bool:
    """Wait briefly; return whether the other side keeps the connection open."""
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def test_client_that_does_not_read_is_cut_off(site_dir: Path, store: Store) -> None:
    """S21: a large file is not kept in memory for a client that does not read."""
    (site_dir / "public/large.zip").write_bytes(b"x" * 30_000_000)
    with (
        web_server.serve_site(site_dir, store.subscribers, client_timeout=0.3) as running,
        running.connect() as connection,
    ):
        connection.sendall(b"GET /large.zip HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1)
        assert len(web_server.read_all(connection)) < 30_000_000


def test_long_headers_are_refused(served: Served) -> None:
    """S21: the headers of a request are limited, too."""
    answer = served.raw(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert served.ask("/").status == 200


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x02\x00\x01", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100],
)
def test_malformed_http_ends_the_connection(served: Served, request_: bytes) -> None:
    """Bytes that are not HTTP end the connection and do no harm."""
    assert not served.raw(request_).startswith(b"HTTP/1.1 2")
    assert served.ask("/").status == 200


# Proxies


@pytest.mark.parametrize("network", ["*", "0.0.0.0/0", "::/0", "nginx", "", "10.0.0.0/33", "1.1.1"])
def test_too_wide_networks_are_refused(network: str) -> None:
    """S19: a star, a network of all addresses and malformed networks are refused."""
    with pytest.raises(PostroomError, match="--proxy"):
        parse_trusted_proxies(["127.0.0.1", network])


def test_trusted_networks_are_normalised() -> None:
    """An IP address becomes a network; bits behind the mask are allowed."""
    written = parse_trusted_proxies(["127.0.0.1", "10.1.2.3/8", "::1"])
    assert written == ("127.0.0.1/32", "10.0.0.0/8", "::1/128")


def request_as_proxy(running: Served) -> Answer:
    """Send a request as a proxy does for 203.0.113.9 over HTTPS."""
    fields = {"X-Forwarded-For": "1.1.1.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
    return running.ask("/list/unsubscribe/x", fields=fields)


def test_forwarded_headers_need_a_trusted_proxy(
    site_dir: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S19: without --proxy they are ignored, whatever the environment says."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with web_server.serve_site(site_dir, store.subscribers) as running:
        answer = request_as_proxy(running)
    assert "strict-transport-security" not in answer.fields
    assert " 127.0.0.0/24 GET " in running.journal[0]


def test_trusted_proxy_names_the_client(site_dir: Path, store: Store) -> None:
    """S18, S19: the last address that is no trusted proxy is the client's; HSTS is sent."""
    networks = parse_trusted_proxies(["127.0.0.1"])
    with web_server.serve_site(site_dir, store.subscribers, proxies=networks) as running:
        answer = request_as_proxy(running)
    assert answer.fields["strict-transport-security"] == "max-age=31536000"
    assert " 203.0.113.0/24 GET " in running.journal[0]


# Requests that a proxy and we may read differently


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 6",
        "HTTP/1.0\r\nTransfer-Encoding: chunked",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_ambiguous_length_ends_the_connection(
    served: Served, store: Store, subscriber: Subscriber, head: str, method: str
) -> None:
    """RFC 9112 §6.1: a second request cannot be hidden in the body of the first."""
    path = f"/list/unsubscribe/{subscriber.token}"
    hidden = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n{ONE_CLICK}"
    with served.connect() as connection:
        connection.sendall(f"{method} {path} {head}\r\n\r\n0\r\n\r\n{hidden}".encode())
        answer = web_server.read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert reload(store, subscriber).state == "active"


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nContent-Length: 7",
        "HTTP/1.1\r\nHost: x\r\nContent-Length: +6",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked",
        "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked",
        "HTTP/1.1\r\nHost: x\r\nHost: y",
        "HTTP/1.1\r\nHost: x\r\nX: a\0b",
    ],
)
def test_a_malformed_head_is_refused(served: Served, head: str) -> None:
    """RFC 9112 §5 and §6: no head that programs read in different ways is answered with a page."""
    answer = served.raw(f"POST /list/unsubscribe/x {head}\r\n\r\n0\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))


def test_the_absolute_form_is_accepted(
    served: Served, store: Store, subscriber: Subscriber
) -> None:
    """RFC 9112 §3.2.2: a request target may begin with scheme and host."""
    host = "http://News.Example.com:8080"
    for target, status in (
        (host, 200),
        (f"{host}/", 200),
        (f"HTTPS://x/list/unsubscribe/{subscriber.token}?a=http://b/c", 200),
        (f"{host}/../secret.txt", 404),
        (f"{host}//secret.txt", 404),
        ("ftp://x/", 404),
        ("http:///", 404),
        ("*", 404),
    ):
        answer = served.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), target
    path = f"http://x/list/unsubscribe/{subscriber.token}"
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert served.raw(request.encode()).startswith(b"HTTP/1.1 200 ")
    assert reload(store, subscriber).state == "unsubscribed"


# Clients that open too much


def _count_open(connections: list[socket.socket]) -> int:
    """Return how many connections the server keeps open."""
    return sum(_is_open(connection) for connection in connections)


def _wait_until(is_true: Callable[[], bool]) -> None:
    """Wait until the server has caught up; fail after ten seconds."""
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def _many_connections(running: Served) -> Iterator[list[socket.socket]]:
    """Open more connections than a client may have."""
    with ExitStack() as stack:
        opened = [stack.enter_context(running.connect()) for _ in range(MOST_PER_CLIENT + 16)]
        for connection in opened:
            connection.settimeout(0.001)
        yield opened


def test_a_client_has_a_limited_number_of_connections(site_dir: Path, store: Store) -> None:
    """A client that opens many connections loses some, and closed ones do not count."""
    with web_server.serve_site(site_dir, store.subscribers) as running:
        for _ in range(2):
            with _many_connections(running) as opened:
                _wait_until(partial(_has_open, opened, MOST_PER_CLIENT))
            _wait_until(partial(_is_answered, running))


def _has_open(connections: list[socket.socket], number: int) -> bool:
    return _count_open(connections) == number


def _is_answered(running: Served) -> bool:
    try:
        return running.ask("/").status == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def test_a_trusted_proxy_has_no_limit(site_dir: Path, store: Store) -> None:
    """All clients share the address of the proxy, so its connections are not limited."""
    networks = parse_trusted_proxies(["127.0.0.0/8"])
    serving = web_server.serve_site(site_dir, store.subscribers, proxies=networks)
    with serving as running, _many_connections(running) as opened:
        # The server accepts in order, so it has seen all others by now.
        assert running.ask("/").status == 200
        assert _count_open(opened) == len(opened)


def test_clients_behind_a_proxy_are_limited(site_dir: Path, store: Store) -> None:
    """A client named by the proxy has a limited number of requests at a time; others have not."""
    networks = parse_trusted_proxies(["127.0.0.1"])
    slow = b"POST /list/unsubscribe/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"

    def ask_as(client: str) -> int:
        return running.ask("/", fields={"X-Forwarded-For": client}).status

    serving = web_server.serve_site(site_dir, store.subscribers, proxies=networks)
    with serving as running, ExitStack() as stack:
        for _ in range(MOST_PER_CLIENT):
            connection = stack.enter_context(running.connect())
            connection.sendall(slow + b"X-Forwarded-For: 203.0.113.9\r\n\r\n")
        _wait_until(lambda: ask_as("203.0.113.9") == 429)
        assert ask_as("203.0.113.8") == 200


# The journal


def test_log_names_nobody(
    site_dir: Path,
    store: Store,
    subscriber: Subscriber,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S20: no line contains a token, an email address or a query, whatever the request."""
    token = subscriber.token
    paths = [
        f"/list/unsubscribe/{token}",
        f"/list/unsubscribe/{token}?email={subscriber.address}",
        f"/list/unsubscribe/{token}/",
        f"/list/{token}",
        f"/unsubscribe/{token}",
        f"/{token}",
        f"/x/{subscriber.address}",
        f"/%2F{token}",
        f"/?token={token}",
        "/atom.xml?secret",
    ]
    with web_server.serve_site(site_dir, store.subscribers) as running:
        for path in paths:
            running.ask(path)
            running.post(path, ONE_CLICK)
            running.ask(path, "OPTIONS")
        running.raw(f"GET /list/unsubscribe/{token} HTTP/9\r\n\r\n".encode())
        running.raw(f"{token} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        running.raw(
            f"POST /list/unsubscribe/{token} HTTP/1.1\r\nContent-Length: 9\r\n\r\n".encode()
        )
    printed = capfd.readouterr()
    everything = "\n".join([*running.journal, printed.out, printed.err, caplog.text])
    for secret in (
        token,
        subscriber.address,
        subscriber.address.split("@")[0],
        "secret",
        "127.0.0.1",
    ):
        assert secret not in everything
    assert (printed.out, printed.err, caplog.text) == ("", "", "")
    assert len(running.journal) >= 3 * len(paths)


def test_log_entry_is_complete(site_dir: Path, store: Store) -> None:
    """A line has time, network, method, path, status and duration."""
    with web_server.serve_site(site_dir, store.subscribers) as running:
        running.ask("/posts/moved/")
    (line,) = running.journal
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.0/24 GET /posts/moved/ 200 \d+ ms"
    assert re.fullmatch(pattern, line)


@pytest.mark.parametrize(
    ("client", "known"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "-"),
        ("reader@example.com", "-"),
    ],
)
def test_networks_are_truncated(client: str, known: str) -> None:
    """S20: IP addresses are shortened to /24 and /64."""
    assert truncate_network(client) == known


@pytest.mark.parametrize(
    ("path", "is_found", "line"),
    [
        (
            "/posts/a-long-name-of-a-post-that-is-there/",
            True,
            "/posts/a-long-name-of-a-post-that-is-there/",
        ),
        ("/posts/a-long-name-of-a-post-that-is-gone/", False, "/posts/…/"),
        ("/posts/名/", True, "/posts/%E5%90%8D/"),
        ("/list/unsubscribe/short", True, "/list/unsubscribe/…"),
        ("/list/style.css", True, "/list/style.css"),
        ("/a@b.example", False, "/…"),
        (None, False, "…"),
    ],
)
def test_paths_are_shown_as_far_as_they_are_public(
    path: str | None,
    is_found: bool,  # noqa: FBT001 - a column of the table
    line: str,
) -> None:
    """S20: names of existing files are public; parts of other paths may be private."""
    assert printable_path(path, found=is_found) == line


# The command


@pytest.fixture
def command(site_dir: Path) -> Iterator[Callable[..., Process[str]]]:
    """Return a function that starts `postroom serve` without a secret key."""
    running: list[Process[str]] = []

    def start(*arguments: str) -> Process[str]:
        process = processes.start(site_dir, {}, "serve", "--port", "0", *arguments)
        running.append(process)
        return process

    yield start
    for process in running:
        with process:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_serves_until_a_signal(
    command: Callable[..., Process[str]],
    store: Store,
    subscriber: Subscriber,
    number: int,
    code: int,
) -> None:
    """The command prints its URL, needs no secret key, and ends with the signal's code."""
    process = command()
    running = wait_until_ready(process)
    assert running.post(path_of(subscriber), ONE_CLICK).status == 200
    assert reload(store, subscriber).state == "unsubscribed"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    (line,) = err.split("\n")[:1]
    assert " 127.0.0.0/24 POST /list/unsubscribe/… 200 " in line
    assert err.removeprefix(line).strip() == ""


def test_a_port_in_use_is_one_line(site_dir: Path, postroom: Callable[..., CommandResult]) -> None:
    """A port in use is an error of one line."""
    with open_socket("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        outcome = postroom(site_dir, "serve", "--port", port)
    assert outcome.code == 2
    what = f"cannot listen on 127.0.0.1 port {port}: address already in use"
    assert outcome.errors == [f"serve: {what}; choose another --host or --port"]


@pytest.mark.parametrize("arguments", [["--proxy", "*"], ["--host", "no.such.host.invalid"]])
def test_wrong_use_is_one_line(
    site_dir: Path, postroom: Callable[..., CommandResult], arguments: Sequence[str]
) -> None:
    """S19: a star as proxy, or a host of another machine, is an error of one line."""
    outcome = postroom(site_dir, "serve", "--port", "0", *arguments)
    assert (outcome.code, len(outcome.errors)) == (2, 1)


def test_incomplete_site_is_a_warning(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """A missing build and a missing mail.unsubscribe are warnings at the start."""
    folder = make_site()
    with open_socket("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        outcome = postroom(folder, "serve", "--port", port)
    unset = "is missing, and emails need it to link here; set it to the URL of this service"
    assert outcome.warnings == [
        "public/: does not exist yet; run postroom build",
        f"postroom.yaml: mail.unsubscribe: {unset}",
    ]


def test_template_error_stops_the_start(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """An error in a template stops the command, not the first request."""
    folder = make_site({"templates/service/unsubscribed.html": "{{ nothing.there }}"})
    outcome = postroom(folder, "serve", "--port", "0")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert outcome.errors[0].startswith("templates/service/unsubscribed.html:1: ")


def test_listens_on_ipv6() -> None:
    """A host with colons is an IPv6 address."""
    try:
        listener = open_socket("::1", 0)
    except PostroomError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.getsockname()[0] == "::1"
