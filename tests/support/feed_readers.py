"""Read feeds in tests: parse the file, serve it over HTTP, poll it with real feed readers."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from html import unescape
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from lxml import etree
from reader import Reader, make_reader

NAMES = {
    "a": "http://www.w3.org/2005/Atom",
    "c": "http://purl.org/rss/1.0/modules/content/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "fh": "http://purl.org/syndication/history/1.0",
    "m": "http://search.yahoo.com/mrss/",
}
FORMATS = ("atom.xml", "rss.xml", "feed.json")


@frozen
class Item:
    """An item of a feed; RSS has no `updated`."""

    id: str
    title: str
    url: str
    published: datetime
    updated: datetime | None
    content: str
    summary: str


def items(data: bytes) -> tuple[Item, ...]:
    """Return the items of a feed document of any format, in order."""
    if data.startswith(b"{"):
        return tuple(_json_item(item) for item in json.loads(data)["items"])
    root = etree.fromstring(data)
    if root.tag == "rss":
        return tuple(_rss_item(item) for item in root.iter("item"))
    return tuple(_atom_item(entry) for entry in root.iter(f"{{{NAMES['a']}}}entry"))


def _json_item(item: dict[str, Any]) -> Item:
    return Item(
        item["id"],
        item["title"],
        item["url"],
        datetime.fromisoformat(item["date_published"]),
        datetime.fromisoformat(item["date_modified"]),
        item.get("content_html", ""),
        item.get("content_text") or item.get("summary", ""),
    )


def _rss_item(item: etree._Element) -> Item:
    return Item(
        item.findtext("guid") or "",
        item.findtext("title") or "",
        item.findtext("link") or "",
        parsedate_to_datetime(item.findtext("pubDate") or ""),
        None,
        item.findtext("c:encoded", "", NAMES) or "",
        unescape(item.findtext("description") or ""),
    )


def _atom_item(entry: etree._Element) -> Item:
    link = entry.find("a:link[@rel='alternate']", NAMES)
    return Item(
        entry.findtext("a:id", "", NAMES),
        entry.findtext("a:title", "", NAMES),
        "" if link is None else link.get("href", ""),
        datetime.fromisoformat(entry.findtext("a:published", "", NAMES)),
        datetime.fromisoformat(entry.findtext("a:updated", "", NAMES)),
        entry.findtext("a:content", "", NAMES),
        entry.findtext("a:summary", "", NAMES),
    )


@define
class Served:
    """A served folder: its URL, and the path and status of every response."""

    url: str
    answers: list[tuple[str, int]] = field(factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve `folder` as a static host does, on a free port of this machine."""

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
            served.answers.append((self.path, int(HTTPStatus(int(code)))))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    served = Served(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def let_time_pass(folder: Path, seconds: int = 3600) -> None:
    """Make every file of `folder` older: Last-Modified has whole seconds only."""
    for path in folder.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


@contextmanager
def subscribed(*urls: str) -> Iterator[Reader]:
    """Return a feed reader that follows `urls` and has not polled yet."""
    with make_reader(":memory:") as reader:
        for url in urls:
            reader.add_feed(url)
        yield reader


@frozen
class PollResult:
    """The numbers of new, modified and unmodified entries of one poll."""

    new: int
    modified: int
    unmodified: int


def poll(reader: Reader) -> PollResult:
    """Let `reader` fetch its only feed and return the numbers; raise errors."""
    (feed,) = reader.get_feeds()
    result = reader.update_feed(feed)
    return (
        PollResult(result.new, result.modified, result.unmodified)
        if result
        else PollResult(0, 0, 0)
    )


def shown_entries(reader: Reader) -> dict[str, tuple[str, str]]:
    """Return the title and URL of every entry that `reader` shows, by id."""
    return {entry.id: (entry.title or "", entry.link or "") for entry in reader.get_entries()}


def newsboat(path: str, folder: Path, url: str) -> dict[str, tuple[str, str]]:
    """Let newsboat fetch the feed at `url`; return the title and URL of each entry, by id."""
    (folder / "urls").write_text(url + "\n")
    files = ["-u", str(folder / "urls"), "-c", str(folder / "cache.db"), "-C", "/dev/null"]
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    command = [path, *files, "-x", "reload"]
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=30)
    connection = sqlite3.connect(folder / "cache.db")
    try:
        rows = connection.execute("select guid, title, url from rss_item").fetchall()
    finally:
        connection.close()
    return {guid: (title, link) for guid, title, link in rows}
