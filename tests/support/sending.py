"""Sites whose subscribers are due one email each, and runs of `send` against a scripted server."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from postroom.cli.main import main
from postroom.db.store import Store, open_store
from tests.support.processes import plain
from tests.support.sending_site import KEY, SENDER
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import Scripted, scripted

MakeSendingSite = Callable[..., "SendingSite"]


class SendingSite:
    """A site whose subscribers are due one email each."""

    def __init__(
        self,
        folder: Path,
        subscribers: int,
        call: Callable[..., CommandResult],
        patch: pytest.MonkeyPatch,
    ) -> None:
        self.folder, self.subscribers = folder, subscribers
        self._call, self._patch = call, patch

    def send(
        self,
        server: Scripted,
        *options: str,
        scheme: str = "smtp",
        login: str = "",
        at: datetime | None = None,
    ) -> CommandResult:
        """Run `send` against `server`."""
        url = f"{scheme}://{login}127.0.0.1:{server.port}"
        self._patch.setenv("POSTROOM_SMTP_URL", url)
        return self._call(self.folder, "send", "--keep-ledger-here", *options, at=at)

    def status(self, *options: str) -> CommandResult:
        """Run `status`."""
        return self._call(self.folder, "status", *options)

    def status_json(self) -> Any:
        """Return the output of `status --json`."""
        return json.loads(self.status("--json").out)

    def store(self) -> Store:
        """Open the store."""
        return open_store(os.environ.get("POSTROOM_DATABASE_URL"), self.folder)

    def states(self) -> dict[str, int]:
        """Return the number of deliveries in each state."""
        store = self.store()
        with closing(store.database):
            return {str(state): count for state, count in store.deliveries.count_by_state().items()}

    def uncertain_addresses(self) -> set[str]:
        """Return the addresses of uncertain deliveries."""
        store = self.store()
        with closing(store.database):
            return {delivery.address for delivery in store.deliveries.uncertain()}

    def heal(self, *taken: str) -> None:
        """Run `send` again later against a healthy server, and check that everybody has one email.

        `taken` are the addresses of those whose email arrived before. Uncertain ones may have it.
        """
        with scripted({}) as server, time_machine.travel(AT + timedelta(minutes=20)):
            self._patch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
            self._patch.chdir(self.folder)
            assert main(["send", "--keep-ledger-here"]) in (0, 1)
            # Uncertain deliveries stay open until somebody closes them.
            assert main(["send", "--keep-ledger-here"]) == (1 if self.uncertain_addresses() else 0)
            got = Counter([*taken, *recipients(server)])
        everybody = {f"reader{number}@example.com" for number in range(self.subscribers)}
        assert [address for address, count in got.items() if count > 1] == []
        assert everybody - set(got) <= self.uncertain_addresses() | self.refused_addresses()
        assert self.states().get("sending", 0) == 0

    def refused_addresses(self) -> set[str]:
        """Return the addresses that the server refused."""
        store = self.store()
        with closing(store.database):
            return {entry.address for entry in store.deliveries.rows("bounced")}


@pytest.fixture
def make_sending_site(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    monkeypatch: pytest.MonkeyPatch,
) -> MakeSendingSite:
    """Return a function that makes a site with this many subscribers."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)

    def make(
        subscribers: int = 3, *, connections: int = 1, rate: int = 100_000, per_connection: int = 0
    ) -> SendingSite:
        settings = f"""\
  connections: {connections}
  rate: {rate}
  per_connection: {per_connection}
"""
        folder = make_site({"posts/a.md": POST}, SENDER + settings)
        names = [f"reader{number}@example.com" for number in range(subscribers)]
        options = ("--confirmed", "--frequency", "post", "--from", "2026-11-01")
        assert postroom(folder, "subscribers", "add", *options, *names).code == 0
        return SendingSite(folder, subscribers, postroom, monkeypatch)

    return make


def recipients(server: Scripted) -> list[str]:
    """Return the recipients of the messages that the server has received completely."""
    matches = (re.search(rb"^To: (\S+)\r$", message, re.MULTILINE) for message in server.messages)
    return [match[1].decode() for match in matches if match]


def taken(server: Scripted, outcome: CommandResult) -> list[str]:
    """Return the recipients who have the email for certain: no delivery may be uncertain."""
    assert "may or may not" not in outcome.err
    return recipients(server)


def surroundings(server: Scripted) -> dict[str, str]:
    """Return the environment of a `postroom send` against `server`."""
    url = f"smtp://127.0.0.1:{server.port}"
    return plain(POSTROOM_SMTP_URL=url, POSTROOM_SECRET_KEY=KEY)


SEND = [sys.executable, "-m", "postroom", "send", "--keep-ledger-here"]
