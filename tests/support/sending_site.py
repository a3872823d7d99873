"""A newsroom whose readers are owed letters, the mail server that takes them, and its rows."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from attrs import frozen

from postroom.db.schema import metadata
from postroom.db.store import Store, open_store
from postroom.mail import unsubscribe
from tests.support.site import AT, CommandResult
from tests.support.smtp_server import Scripted

NOTHING_DUE = "nothing is due; postroom plan shows who is owed what, and when\n"
KEY = "a secret key of the tests"
SENDER = """\
contact: {name: Press office, address: 1 Example Street}
mail:
  from: Example News <news@example.com>
  bounces: bounces@example.com
  unsubscribe: https://news.example.com
"""
MAIL = SENDER + "  connections: 1\n  rate: 100000\n"


@frozen
class Room:
    """A newsroom whose readers are owed a letter, and the mail server that takes it."""

    folder: Path
    server: Scripted
    call: Callable[..., CommandResult]

    def send(self, *options: str, at: datetime = AT) -> CommandResult:
        """Run `send`."""
        return self.call(self.folder, "send", "--keep-ledger-here", *options, at=at)

    def add(self, *addresses: str, frequency: str = "post", start: str = "2026-11-01") -> None:
        """Add readers who are owed what came since `start`."""
        options = ("--confirmed", "--frequency", frequency, "--from", start)
        assert self.call(self.folder, "subscribers", "add", *options, *addresses).code == 0

    def write(self, name: str, text: str) -> None:
        """Write a post, or another one in its place."""
        (self.folder / "posts" / name).write_text(text, "utf-8")

    def store(self) -> Store:
        """Open the store."""
        return open_store(os.environ.get("POSTROOM_DATABASE_URL"), self.folder)

    def leave(self, address: str) -> None:
        """Unsubscribe a reader, as the service does."""
        store = self.store()
        with closing(store.database):
            reader = store.subscribers.find(address)
            assert reader
            assert unsubscribe.unsubscribe(store.subscribers, reader.token, AT, "page")

    def rows(self, *but: str) -> dict[str, Sequence[tuple[object, ...]]]:
        """Return every row of every table but those named."""
        store = self.store()
        with closing(store.database), store.database.reading() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table))]
                for table in metadata.sorted_tables
                if table.name not in but
            }

    def got(self) -> Counter[str]:
        """Return how many letters each reader was sent."""
        found = (re.search(rb"^To: (\S+)\r$", one, re.MULTILINE) for one in self.server.messages)
        return Counter(match[1].decode() for match in found if match)
