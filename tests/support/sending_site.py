"""A site whose subscribers are due emails, its SMTP server, and its database."""

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

NOTHING_DUE = "nothing is due; postroom plan shows what is due next, and when\n"
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
class SiteWithServer:
    """A site whose subscribers are due an email, and the SMTP server that receives it."""

    folder: Path
    server: Scripted
    call: Callable[..., CommandResult]

    def send(self, *options: str, at: datetime = AT) -> CommandResult:
        """Run `send`."""
        return self.call(self.folder, "send", "--keep-ledger-here", *options, at=at)

    def add(self, *addresses: str, frequency: str = "post", start: str = "2026-11-01") -> None:
        """Add subscribers who are due the posts since `start`."""
        options = ("--confirmed", "--frequency", frequency, "--from", start)
        assert self.call(self.folder, "subscribers", "add", *options, *addresses).code == 0

    def write(self, name: str, text: str) -> None:
        """Write or replace a post."""
        (self.folder / "posts" / name).write_text(text, "utf-8")

    def store(self) -> Store:
        """Open the store."""
        return open_store(os.environ.get("POSTROOM_DATABASE_URL"), self.folder)

    def unsubscribe_address(self, address: str) -> None:
        """Unsubscribe somebody, as the unsubscribe page does."""
        store = self.store()
        with closing(store.database):
            subscriber = store.subscribers.find(address)
            assert subscriber
            assert unsubscribe.unsubscribe(store.subscribers, subscriber.token, AT, "page")

    def rows(self, *but: str) -> dict[str, Sequence[tuple[object, ...]]]:
        """Return every row of every table, except the named tables."""
        store = self.store()
        with closing(store.database), store.database.reading() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(sa.select(table))]
                for table in metadata.sorted_tables
                if table.name not in but
            }

    def email_counts(self) -> Counter[str]:
        """Return the number of emails that each address was sent."""
        matches = (
            re.search(rb"^To: (\S+)\r$", message, re.MULTILINE) for message in self.server.messages
        )
        return Counter(match[1].decode() for match in matches if match)
