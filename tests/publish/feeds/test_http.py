"""Feeds on a static server: unchanged files are not sent again."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import feedparser
import pytest

from tests.support.feed_readers import FORMATS, let_time_pass, serving
from tests.support.generated_sites import FIRST_DAY, short_post, site_files
from tests.support.site import CommandResult, MakeSite

TOPIC = "topics/company-news/"


def fetch(url: str, since: str = "") -> tuple[int, str, str]:
    """Request `url` as feed readers do and return status, Last-Modified and type."""
    headers = {"If-Modified-Since": since} if since else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            kind = answer.headers.get_content_type()
            return answer.status, answer.headers["Last-Modified"], kind
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", ""


@pytest.fixture
def built(make_site: MakeSite, postroom: Callable[..., CommandResult]) -> Path:
    """Return a site that was built an hour ago."""
    folder = make_site(site_files(12), "feeds: {entries: 5}\n")
    assert postroom(folder, "build").code == 0
    let_time_pass(folder / "public")
    return folder


def test_an_unchanged_rebuild_is_not_sent_again(
    built: Path, postroom: Callable[..., CommandResult]
) -> None:
    """After a build, every unchanged file is answered with 304, even if there is a new post."""
    paths = (*FORMATS, TOPIC + "rss.xml", "lang/de/feed.json", "history/1.atom.xml", "feeds.opml")
    with serving(built / "public") as server:
        times = {path: fetch(server.url + path)[1] for path in paths}
        postroom(built, "build", "--at", "2026-11-25T00:00:00Z")
        again = {path: fetch(server.url + path, times[path])[0] for path in paths}
        assert again == dict.fromkeys(paths, 304)
        (built / "posts/new.md").write_text(short_post(99, FIRST_DAY.replace(year=2025)))
        postroom(built, "build")
        after = {path: fetch(server.url + path, times[path])[0] for path in paths}
        assert after == {path: 200 if path in FORMATS else 304 for path in paths}


def test_a_changed_text_is_sent_again(built: Path, postroom: Callable[..., CommandResult]) -> None:
    """A corrected text reaches feed readers that ask by date, although its time is unchanged."""
    with serving(built / "public") as server:
        since = fetch(server.url + "atom.xml")[1]
        post = built / "posts/4/00011.md"
        post.write_text(post.read_text("utf-8").replace("has a", "has the"), "utf-8")
        postroom(built, "build")
        assert fetch(server.url + "atom.xml", since)[0] == 200


def test_feedparser_gets_a_304(built: Path, postroom: Callable[..., CommandResult]) -> None:
    """A feed reader that polls again finds no new entry."""
    with serving(built / "public") as server:
        first = feedparser.parse(server.url + "rss.xml")
        postroom(built, "build")
        second = feedparser.parse(server.url + "rss.xml", modified=first.modified)
    assert (first.status, len(first.entries), second.status) == (200, 6, 304)
    assert server.answers == [("/rss.xml", 200), ("/rss.xml", 304)]


def test_hosts_serve_feeds_as_xml(built: Path) -> None:
    """Static hosts serve the feeds by their names with a type that browsers show."""
    with serving(built / "public") as server:
        kinds = [fetch(server.url + file)[2] for file in FORMATS]
    assert [kind.replace("text/xml", "application/xml") for kind in kinds] == [
        "application/xml",
        "application/xml",
        "application/json",
    ]
