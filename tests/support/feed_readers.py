"""Ways to read a feed: its items as they stand in the file, a web server, a real feed reader."""

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
    """What a feed says of one post; RSS knows no `updated`."""

    id: str
    title: str
    url: str
    published: datetime
    updated: datetime | None
    content: str
    summary: str


def items(data: bytes) -> tuple[Item, ...]:
    """Return the items of a feed document in their order, whatever its format."""
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
    """A folder that is being served: its address, and every answer that was given."""

    url: str
    answers: list[tuple[str, int]] = field(factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve `folder` as plain static hosting does, on a free port of this machine."""

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
    """Make every file of `folder` older: Last-Modified tells whole seconds only."""
    for path in folder.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


@contextmanager
def subscribed(*addresses: str) -> Iterator[Reader]:
    """Return a feed reader that follows `addresses` and has not polled yet."""
    with make_reader(":memory:") as reader:
        for address in addresses:
            reader.add_feed(address)
        yield reader


@frozen
class Polled:
    """What one poll counted: entries that were new, changed, and the same."""

    new: int
    modified: int
    unmodified: int


def poll(reader: Reader) -> Polled:
    """Let `reader` fetch its one feed and return what it counted; an error is raised."""
    (feed,) = reader.get_feeds()
    result = reader.update_feed(feed)
    return Polled(result.new, result.modified, result.unmodified) if result else Polled(0, 0, 0)


def seen(reader: Reader) -> dict[str, tuple[str, str]]:
    """Return title and address of every entry that `reader` shows, by its id."""
    return {entry.id: (entry.title or "", entry.link or "") for entry in reader.get_entries()}


def newsboat(path: str, folder: Path, url: str) -> dict[str, tuple[str, str]]:
    """Let newsboat fetch the feed at `url` and return what it stores of each entry, by its id."""
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
    return {guid: (title, address) for guid, title, address in rows}
