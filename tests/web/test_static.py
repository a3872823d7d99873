"""The built site over real HTTP: files, ranges, 304, and everything that must not be served."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.utils import format_datetime
from pathlib import Path
from time import monotonic, sleep

import feedparser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.media_types import content_type
from tests.support import sites, web_server
from tests.support.feed_readers import let_time_pass
from tests.support.site import POST, SETTINGS
from tests.support.web_server import EmptyStore, Served

SECRET = b"what must not be served"
MARK = '<meta name="postroom-status" content="410">'
FILES: sites.Files = {
    "postroom.yaml": SETTINGS + "theme: {logo: logo.svg}\n",
    "posts/moved.md": POST,
    "posts/gone.md": (
        "---\ntitle: Gone\ndate: 2026-11-01\nid: tag:news.example.com,2026:gone\n"
        "withdrawn: 2026-11-20\n---\nNo longer true.\n"
    ),
    "posts/marked.md": (
        f"---\ntitle: '{MARK}'\ndate: 2026-11-02\nid: tag:news.example.com,2026:marked\n"
        f"slug: marked\n---\n{MARK}\n\n```\n{MARK}\n```\n"
    ),
    "posts/名.md": "---\ntitle: 名\ndate: 2026-11-03\nid: tag:news.example.com,2026:n\n---\n名\n",
    "logo.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.fixture(scope="module")
def site_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a built site with files around its output that must not be served."""
    folder = sites.write(tmp_path_factory.mktemp("public") / "site", FILES)
    public = sites.build(folder, folder / "public")
    (folder / "secret.txt").write_bytes(SECRET)
    (folder / ".postroom").mkdir()
    (folder / ".postroom/postroom.db").write_bytes(SECRET)
    (public / "secrets").symlink_to(folder)
    (public / "secret.txt").symlink_to(folder / "secret.txt")
    (public / "inside.xml").symlink_to("atom.xml")
    (public / ".hidden").write_bytes(SECRET)
    (public / ".well-known").mkdir()
    (public / ".well-known/security.txt").write_text("Contact: mailto:a@example.com\n")
    (public / "empty").mkdir()
    (public / "by-hand.html").write_text(f"<html><head></head><body>{MARK}</body></html>")
    (public / "data").write_bytes(b"\0\1")
    os.mkfifo(public / "pipe")
    let_time_pass(public)
    return folder


@pytest.fixture(scope="module")
def served(site_dir: Path) -> Iterator[Served]:
    """Serve the site for all tests of this module."""
    with web_server.serve_site(site_dir, EmptyStore()) as running:
        yield running


# Published files


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/posts/moved/", "text/html; charset=utf-8"),
        ("/posts/moved/index.html", "text/html; charset=utf-8"),
        ("/posts/%E5%90%8D/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/atom.xml", "application/xml; charset=utf-8"),
        ("/rss.xml", "application/xml; charset=utf-8"),
        ("/topics/company-news/rss.xml", "application/xml; charset=utf-8"),
        ("/feed.json", "application/json"),
        ("/feeds.opml", "text/x-opml; charset=utf-8"),
        ("/robots.txt", "text/plain; charset=utf-8"),
        ("/digest/2026-11/email.txt", "text/plain; charset=utf-8"),
        ("/logo.svg", "image/svg+xml"),
        ("/.well-known/security.txt", "text/plain; charset=utf-8"),
        ("/data", "application/octet-stream"),
        ("/atom.xml?from=reader", "application/xml; charset=utf-8"),
    ],
)
def test_files_are_served_unchanged(served: Served, site_dir: Path, path: str, kind: str) -> None:
    """A folder is its index.html; the media type depends only on the file name."""
    answer = served.ask(path)
    file = site_dir / "public" / path.partition("?")[0].removeprefix("/").replace("%E5%90%8D", "名")
    there = (file / "index.html" if file.is_dir() else file).read_bytes()
    assert (answer.status, answer.fields["content-type"]) == (200, kind)
    assert (answer.body, answer.fields["content-length"]) == (there, str(len(there)))


def test_every_file_of_a_build_has_a_type(site_dir: Path) -> None:
    """Every file of a build has a media type that browsers can show."""
    made = [path for path in (site_dir / "public").rglob("*.*") if not path.name.startswith(".")]
    unknown = {path.name for path in made if "octet-stream" in content_type(path.name)}
    assert unknown == set()


def test_a_large_file_is_sent_whole(served: Served, site_dir: Path) -> None:
    """A large file is sent in chunks without loss."""
    data = os.urandom(1_000_003)
    (site_dir / "public/film.mp4").write_bytes(data)
    answer = served.ask("/film.mp4")
    assert (answer.fields["content-type"], answer.body) == ("video/mp4", data)


def test_folder_without_slash_redirects(served: Served) -> None:
    """A folder without its slash redirects: links in pages are relative."""
    answer = served.ask("/posts/moved")
    assert (answer.status, answer.fields["location"]) == (301, "./moved/")
    answer = served.ask("/posts/%E5%90%8D")
    assert answer.fields["location"] == "./%E5%90%8D/"


def test_no_redirect_leads_to_another_host(served: Served) -> None:
    """A path that looks like a host name never redirects there."""
    for path in ("//evil.example/posts", "/\\evil.example", "/https://evil.example"):
        answer = served.ask(path)
        assert (answer.status, "location" in answer.fields) == (404, False)


def test_missing_page_is_404_html(served: Served, site_dir: Path) -> None:
    """The site's own 404.html is sent for a missing page."""
    for path in ("/no/such/page", "/empty/", "/posts/moved/index.html/", "/atom.xml/"):
        answer = served.ask(path)
        there = (site_dir / "public/404.html").read_bytes()
        assert (answer.status, answer.body) == (404, there)


def test_svg_image_has_its_own_policy(served: Served) -> None:
    """An SVG image opened by itself may have styles, but no scripts."""
    policy = served.ask("/logo.svg").fields["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert policy.endswith("sandbox")


@pytest.mark.parametrize(
    ("name", "is_download"),
    [
        ("active.svg", True),
        ("script.js", True),
        ("page.xhtml", True),
        ("logo.svg", False),
        ("atom.xml", False),
        ("by-hand.html", False),
    ],
)
def test_a_file_that_may_run_scripts_is_a_download(
    served: Served, site_dir: Path, name: str, *, is_download: bool
) -> None:
    """A stranger's file does not run in the browser of a visitor, but can be saved."""
    (site_dir / "public/active.svg").write_text("<svg onload='alert()'/>")
    (site_dir / "public/script.js").write_text("alert()")
    (site_dir / "public/page.xhtml").write_text("<p/>")
    fields = served.ask(f"/{name}").fields
    assert fields.get("content-disposition") == ("attachment" if is_download else None)
    assert fields["x-content-type-options"] == "nosniff"


# Withdrawn posts


def test_withdrawn_post_is_410(served: Served, site_dir: Path) -> None:
    """A withdrawn post has status 410 and no validators."""
    answer = served.ask("/posts/gone/")
    assert answer.status == 410
    assert answer.body == (site_dir / "public/posts/gone/index.html").read_bytes()
    assert not {"etag", "last-modified"} & answer.fields.keys()
    assert served.ask("/posts/gone/", fields={"If-None-Match": "*"}).status == 410


def test_mark_in_a_post_is_ignored(served: Served) -> None:
    """The mark of a withdrawn post counts only in the head, which no post can write."""
    for path in ("/posts/marked/", "/by-hand.html"):
        answer = served.ask(path)
        assert (answer.status, b"postroom-status" in answer.body) == (200, True)


# Cached files


def test_unchanged_file_is_304(served: Served) -> None:
    """RFC 9110 §13: by ETag, also weak or one of several, and by date."""
    for path in ("/atom.xml", "/"):
        first = served.ask(path)
        tag, date = first.fields["etag"], first.fields["last-modified"]
        for known in (
            {"If-None-Match": tag},
            {"If-None-Match": f'"other", W/{tag}'},
            {"If-None-Match": "*"},
            {"If-Modified-Since": date},
            {"If-None-Match": tag, "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        ):
            for method in ("GET", "HEAD"):
                again = served.ask(path, method, fields=known)
                assert (again.status, again.body) == (304, b"")
                assert again.fields["etag"] == tag


@pytest.mark.parametrize(
    "known",
    [
        {"If-None-Match": '"other"'},
        {"If-None-Match": '"other"', "If-Modified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"},
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If-Modified-Since": "yesterday"},
        {"If-Modified-Since": "Fri, 31 Dec 9999 23:59:59 -0000"},
        {"If-Modified-Since": ""},
    ],
)
def test_changed_file_is_sent(served: Served, known: dict[str, str]) -> None:
    """Another ETag overrides any date, and a malformed date is ignored."""
    assert served.ask("/atom.xml", fields=known).status == 200


def test_a_feed_reader_gets_a_304(served: Served) -> None:
    """A feed reader that polls again gets 304."""
    first = feedparser.parse(f"{served.url}rss.xml")
    again = feedparser.parse(f"{served.url}rss.xml", etag=first.etag)
    since = feedparser.parse(f"{served.url}rss.xml", modified=first.modified)
    assert (first.status, len(first.entries)) == (200, 4)
    assert (again.status, since.status) == (304, 304)


def test_build_is_served_at_once(tmp_path: Path) -> None:
    """The next request gets the files of a new build; unchanged files stay 304."""
    folder = sites.write(tmp_path, FILES)
    sites.build(folder, folder / "public")
    let_time_pass(folder / "public")
    with web_server.serve_site(folder, EmptyStore()) as running:
        tags = {path: running.ask(path).fields["etag"] for path in ("/posts/moved/", "/robots.txt")}
        post = folder / "posts/moved.md"
        post.write_text(post.read_text().replace("*new* office", "*newer* office"))
        sites.build(folder, folder / "public")
        after = {path: running.ask(path, fields={"If-None-Match": tags[path]}) for path in tags}
        assert [answer.status for answer in after.values()] == [200, 304]
        assert b"newer" in after["/posts/moved/"].body
        post.unlink()
        sites.build(folder, folder / "public")
        assert running.ask("/posts/moved/").status == 404


def test_switched_release_is_served_at_once(tmp_path: Path) -> None:
    """The output folder may be a link that is switched to the next release."""
    folder = sites.write(tmp_path, FILES)
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "index.html").write_text(name)
    (folder / "public").symlink_to("one")
    with web_server.serve_site(folder, EmptyStore()) as running:
        assert running.ask("/").body == b"one"
        (folder / "next").symlink_to("two")
        (folder / "next").replace(folder / "public")
        assert running.ask("/").body == b"two"


def test_missing_output_is_a_page(tmp_path: Path) -> None:
    """Before the first build a page says that nothing is published."""
    folder = sites.write(tmp_path, FILES)
    with web_server.serve_site(folder, EmptyStore()) as running:
        answer = running.ask("/")
        assert (answer.status, b"Nothing has been published yet" in answer.body) == (404, True)
        assert running.ask("/list/unsubscribe/x").status == 200
        (folder / "public").mkdir()
        assert b"Page not found" in running.ask("/").body


# Paths that are not served


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/posts/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/posts%2fmoved/",
        "/%2F..%2Fsecret.txt",
        "//secret.txt",
        "/./atom.xml",
        "/posts//moved/",
        "/atom.xml%00",
        "/atom.xml%00.html",
        "/atom.xml%0a",
        "/%ff",
        "/%252e%252e/secret.txt",
        "/secret.txt",
        "/secrets/secret.txt",
        "/secrets/",
        "/secrets",
        "/inside.xml",
        "/.hidden",
        "/.postroom.json",
        "/.well-known/../.hidden",
        "/.well-known/.hidden",
        "/posts/.well-known/x",
        "/pipe",
        "/pipe/",
        "/empty",
        "/data/",
        "/" + "x" * 300,
        "/" + "x/" * 3000,
        "*",
        "/~root/",
    ],
)
def test_nothing_else_is_served(served: Served, path: str) -> None:
    """S21: no traversal, link, hidden file, encoded slash or NUL, or named pipe."""
    answer = served.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert SECRET not in answer


STEPS = st.sampled_from(
    """.. . %2e%2e %2e secrets public posts secret.txt .postroom .hidden postroom.db
    ..%2f.. %00 ~ index.html moved %c0%ae%c0%ae""".split()
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS | st.just(""), max_size=8).map("/".join))
def test_random_paths_never_leave_the_output(served: Served, path: str) -> None:
    """Random paths never return a file outside the output, nor an internal error."""
    answer = served.raw(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 200 ", b"HTTP/1.1 301 "))
    assert SECRET not in answer


def test_new_symbolic_link_is_refused(tmp_path: Path) -> None:
    """S21: a link is refused when it is opened, not only at the start."""
    folder = sites.write(tmp_path, FILES)
    public = sites.build(folder, folder / "public")
    with web_server.serve_site(folder, EmptyStore()) as running:
        assert running.ask("/posts/moved/").status == 200
        (public / "posts").rename(folder / "elsewhere")
        (public / "posts").symlink_to(folder / "elsewhere")
        assert running.ask("/posts/moved/").status == 404


def test_no_file_stays_open(served: Served) -> None:
    """Every request closes its file: the service runs for years."""
    paths = [
        "/",
        "/atom.xml",
        "/posts/moved",
        "/posts/gone/",
        "/no",
        "/pipe",
        "/secrets/",
        "/empty/",
    ]
    for method in ("GET", "HEAD", "POST"):
        before = len(list(Path("/proc/self/fd").iterdir()))
        for path in paths * 5:
            served.ask(path, method)
            served.ask(path, method, fields={"If-None-Match": "*"})
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3


def test_future_date_is_304(served: Served) -> None:
    """A client whose clock is wrong still gets 304."""
    ahead = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    assert served.ask("/atom.xml", fields={"If-Modified-Since": ahead}).status == 304


# Ranges


@pytest.fixture(scope="module")
def video(site_dir: Path) -> bytes:
    """Return the bytes of a video in the output."""
    data = os.urandom(200_003)
    (site_dir / "public/range.mp4").write_bytes(data)
    return data


@pytest.mark.parametrize(
    ("requested", "start", "end"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, 200_002),
        ("bytes=-100", 199_903, 200_002),
        ("bytes=-999999", 0, 200_002),
        ("bytes=200002-999999", 200_002, 200_002),
        ("BYTES=1000-150000", 1000, 150_000),
    ],
)
def test_range_is_sent_as_partial_content(
    served: Served, video: bytes, requested: str, start: int, end: int
) -> None:
    """A request for one range gets 206 and those bytes alone (RFC 9110 §14.2)."""
    answer = served.ask("/range.mp4", fields={"Range": requested})
    assert (answer.status, answer.body) == (206, video[start : end + 1])
    assert answer.fields["content-range"] == f"bytes {start}-{end}/{len(video)}"
    assert answer.fields["content-type"] == "video/mp4"
    assert answer.fields["x-content-type-options"] == "nosniff"


def test_several_ranges_are_sent_in_parts(served: Served, video: bytes) -> None:
    """Several ranges come as multipart/byteranges (RFC 9110 §14.6)."""
    answer = served.ask("/range.mp4", fields={"Range": "bytes=0-9, 100-109"})
    kind = answer.fields["content-type"]
    message = message_from_bytes(f"Content-Type: {kind}\n\n".encode() + answer.body)
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert (answer.status, len(parts)) == (206, 2)
    assert [part["Content-Range"] for part in parts] == [
        "bytes 0-9/200003",
        "bytes 100-109/200003",
    ]
    assert all(data in answer.body for data in (video[:10], video[100:110]))
    assert answer.fields["content-length"] == str(len(answer.body))


def test_files_announce_ranges(served: Served, video: bytes) -> None:
    """Every file says that parts of it can be requested (RFC 9110 §14.3)."""
    for method in ("GET", "HEAD"):
        answer = served.ask("/range.mp4", method)
        assert (answer.status, answer.fields["accept-ranges"]) == (200, "bytes")
        assert answer.fields["content-length"] == str(len(video))
    assert served.ask("/").fields["accept-ranges"] == "bytes"


@pytest.mark.parametrize("requested", ["bytes=200003-", "bytes=999999-9999999", "bytes=-0"])
def test_range_beyond_the_end_is_refused(served: Served, video: bytes, requested: str) -> None:
    """A range outside the file gets 416 with the length of the file (RFC 9110 §15.5.17)."""
    answer = served.ask("/range.mp4", fields={"Range": requested})
    assert (answer.status, answer.fields["content-range"]) == (416, f"bytes */{len(video)}")


@pytest.mark.parametrize(
    "requested",
    [
        "lines=1-2",
        "bytes",
        "bytes=",
        "bytes=9-1",
        "bytes=a-b",
        "bytes=-",
        "bytes=1-2-3",
        "0-9",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_malformed_range_is_ignored(served: Served, video: bytes, requested: str) -> None:
    """A malformed range, or one of an unknown unit, is ignored (RFC 9110 §14.2)."""
    answer = served.ask("/range.mp4", fields={"Range": requested})
    assert (answer.status, answer.body) == (200, video)


def test_if_range_needs_the_same_file(served: Served, video: bytes) -> None:
    """If-Range with another ETag or date gets the whole file (RFC 9110 §13.1.5)."""
    whole = served.ask("/range.mp4")
    tag, date = whole.fields["etag"], whole.fields["last-modified"]
    for validator, status in (
        (tag, 206),
        (date, 206),
        ('"other"', 200),
        (f"W/{tag}", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ):
        answer = served.ask("/range.mp4", fields={"Range": "bytes=1-4", "If-Range": validator})
        assert (answer.status, answer.body) == (status, video[1:5] if status == 206 else video)


def test_head_ignores_range(served: Served, video: bytes) -> None:
    """HEAD with Range describes the whole file (RFC 9110 §14.2)."""
    answer = served.ask("/range.mp4", "HEAD", fields={"Range": "bytes=0-9"})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.fields["content-length"] == str(len(video))


def test_if_none_match_precedes_range(served: Served, video: bytes) -> None:
    """If-None-Match is evaluated before Range (RFC 9110 §13.2.2)."""
    tag = served.ask("/range.mp4").fields["etag"]
    answer = served.ask("/range.mp4", fields={"Range": "bytes=0-9", "If-None-Match": tag})
    assert (answer.status, answer.body, len(video)) == (304, b"", 200_003)


def test_withdrawn_post_has_no_ranges(served: Served) -> None:
    """The page of a withdrawn post is sent whole, with 410."""
    answer = served.ask("/posts/gone/", fields={"Range": "bytes=0-9"})
    assert (answer.status, "content-range" in answer.fields) == (410, False)


def test_range_of_a_link_is_refused(served: Served) -> None:
    """A range of a symbolic link or hidden file is refused like the whole file."""
    for path in ("/secret.txt", "/secrets/secret.txt", "/inside.xml", "/.hidden"):
        answer = served.ask(path, fields={"Range": "bytes=0-9"})
        assert answer.status == 404


# Invalid dates and changing files


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 99999999999999999999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 +99999999999999",
        "Fri, 99 Foo 2026 99:99:99 GMT",
        "Fri, 31 Dec 9999 23:59:59 +0100",
        "\xb2\xb3",
        "9" * 5000,
    ],
)
def test_absurd_date_is_ignored(served: Served, date: str) -> None:
    """An If-Modified-Since that is no HTTP date is ignored (RFC 9110 §13.1.3)."""
    answer = served.ask("/atom.xml", fields={"If-Modified-Since": date})
    assert (answer.status, served.journal[-1].count("error")) == (200, 0)


def _begin(connection: socket.socket, path: str, fields: str = "") -> bytes:
    """Request `path` and read the first bytes, so that the server waits with the rest."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"
    connection.sendall(head.encode())
    return connection.recv(1024)


def test_growing_file_is_sent_to_its_length(served: Served, site_dir: Path) -> None:
    """A file that grows meanwhile is sent with the length it had at first."""
    data = os.urandom(20_000_003)
    (site_dir / "public/growing.mp4").write_bytes(data)
    with served.connect() as connection:
        began = _begin(connection, "/growing.mp4")
        with (site_dir / "public/growing.mp4").open("ab") as file:
            file.write(b"more" * 100_000)
        answer = began + web_server.read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: 20000003" in head.lower()
    assert (len(body), body == data) == (len(data), True)
    assert "error" not in "".join(served.journal[-2:])


def test_shrinking_file_ends_the_connection(served: Served, site_dir: Path) -> None:
    """A file that shrinks meanwhile ends the connection at once."""
    (site_dir / "public/shrinking.mp4").write_bytes(os.urandom(20_000_003))
    with served.connect() as connection:
        began = _begin(connection, "/shrinking.mp4")
        os.truncate(site_dir / "public/shrinking.mp4", 1000)
        connection.settimeout(10)
        answer = began + web_server.read_all(connection)
    assert len(answer) < 20_000_003
    assert any(line.startswith("error: FileShrankError") for line in served.journal)
    assert served.ask("/").status == 200


def test_shrinking_file_ends_its_ranges(served: Served, site_dir: Path) -> None:
    """A range of a file that shrinks ends the connection, too."""
    for requested in ("bytes=1-", "bytes=1-15000000,16000000-"):
        (site_dir / "public/shrinking.mp4").write_bytes(os.urandom(20_000_003))
        with served.connect() as connection:
            began = _begin(connection, "/shrinking.mp4", f"Range: {requested}\r\n")
            os.truncate(site_dir / "public/shrinking.mp4", 1000)
            connection.settimeout(10)
            answer = began + web_server.read_all(connection)
        assert answer.startswith(b"HTTP/1.1 206 ")
        assert len(answer) < 15_000_000


def test_replaced_file_is_sent_as_it_was(served: Served, site_dir: Path) -> None:
    """A build renames new files over old ones: a running response stays whole."""
    data = os.urandom(20_000_003)
    (site_dir / "public/replaced.mp4").write_bytes(data)
    (site_dir / "public/next.mp4").write_bytes(b"new")
    with served.connect() as connection:
        began = _begin(connection, "/replaced.mp4")
        (site_dir / "public/next.mp4").replace(site_dir / "public/replaced.mp4")
        answer = began + web_server.read_all(connection)
    body = answer.partition(b"\r\n\r\n")[2]
    assert (len(body), body == data) == (len(data), True)
    assert served.ask("/replaced.mp4").body == b"new"


def test_no_file_stays_open_after_a_range(served: Served, video: bytes) -> None:
    """A range, a refused range and a client that disconnects leave no open file."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for requested in ("bytes=0-9", "bytes=0-9,20-29", f"bytes={len(video)}-") * 10:
        served.ask("/range.mp4", fields={"Range": requested})
        served.ask("/range.mp4", "HEAD", fields={"Range": requested})
        with served.connect() as connection:
            _begin(connection, "/range.mp4")
    deadline = monotonic() + 10
    while len(list(Path("/proc/self/fd").iterdir())) > before + 3 and monotonic() < deadline:
        sleep(0.05)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3
