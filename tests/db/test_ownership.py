"""A database that was copied, moved, or opened by another site sends only after `db claim`."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.db import ownership
from postroom.db.ownership import LedgerPlace, find_difference, identify_machine
from postroom.db.store import open_store
from tests.support import postgresql
from tests.support.sending_site import KEY, MAIL, NOTHING_DUE, SiteWithServer
from tests.support.site import POST, SETTINGS, CommandResult, MakeSite
from tests.support.smtp_server import Scripted, scripted

Postroom = Callable[..., CommandResult]
NAME = ".postroom/postroom.db"
CLAIM = "if no other copy sends any more, run: postroom db claim"
OTHER_ID = '"tag:news.example.com,2026:"', '"tag:other.example.com,2026:"'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """Run an SMTP server, and name it and the secret key in the environment."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
    # A developer's machine and CI send alike.
    monkeypatch.delenv("CI", raising=False)
    with scripted({}) as running:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{running.port}")
        yield running


@pytest.fixture
def site(make_site: MakeSite, postroom: Postroom, server: Scripted) -> SiteWithServer:
    """Return a site with two subscribers, who are due an email."""
    made = SiteWithServer(make_site({"posts/a.md": POST}, MAIL), server, postroom)
    made.add("a@example.com", "b@example.com")
    return made


def copy(site: SiteWithServer, name: str) -> SiteWithServer:
    """Copy the folder of a site."""
    folder = site.folder.with_name(name)
    shutil.copytree(site.folder, folder)
    return SiteWithServer(folder, site.server, site.call)


def other_path(old: Path, new: Path) -> str:
    """Return the error of a database that belongs at another path."""
    return f"{NAME}: belongs at {old / NAME}, and is a copy or was moved to {new / NAME}; {CLAIM}"


def send(site: SiteWithServer, *options: str) -> CommandResult:
    """Run `send` as at home: the file stays where it is."""
    return site.call(site.folder, "send", *options)


def test_a_copy_sends_nothing_until_it_is_claimed(site: SiteWithServer) -> None:
    """Of two copies of the folder one sends; the other sends only after `db claim`."""
    other = copy(site, "copy")
    refused = send(other)
    assert (refused.code, refused.errors) == (1, [other_path(site.folder, other.folder)])
    assert send(other, "--resend-uncertain").errors == refused.errors
    assert site.server.commands == []
    assert send(site).code == 0
    assert send(other).errors == refused.errors
    assert dict(site.email_counts()) == {"a@example.com": 1, "b@example.com": 1}
    site.add("c@example.com")
    last = copy(site, "last")
    assert site.call(last.folder, "db", "claim").code == 0
    assert send(last).code == 0
    assert send(last).out == NOTHING_DUE
    assert dict(site.email_counts()) == dict.fromkeys(
        ["a@example.com", "b@example.com", "c@example.com"], 1
    )


def test_a_refused_run_changes_nothing(site: SiteWithServer) -> None:
    """No run begins in a copy, nothing is planned, and the lock is released."""
    other = copy(site, "copy")
    before = other.rows()
    assert send(other).code == 1
    assert other.rows() == before
    assert (other.folder / "postroom.yaml").exists()
    with closing(other.store().database) as database, database.locked() as is_ours:
        assert is_ours


def test_a_moved_folder_needs_a_claim(site: SiteWithServer) -> None:
    """After a move the message names both paths, and one claim is enough."""
    assert send(site).code == 0
    old = site.folder
    moved = SiteWithServer(old.rename(old.with_name("moved")), site.server, site.call)
    assert send(moved).errors == [other_path(old, moved.folder)]
    claimed = site.call(moved.folder, "db", "claim")
    place = f"tag:news.example.com,2026:, this machine and {moved.folder / NAME}"
    assert (claimed.code, claimed.out) == (0, f"{NAME}: claimed for {place}\n")
    assert send(moved).out == NOTHING_DUE


def test_another_machine_needs_a_claim(
    site: SiteWithServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same path on another machine is refused, by the machine id or else the host name."""
    for number in ("1", "2"):
        (tmp_path / number).write_text(number * 32 + "\n")
    assert send(site).code == 0
    monkeypatch.setattr(ownership, "MACHINE_ID", tmp_path / "1")
    host = socket.gethostname()
    text = f"{NAME}: belongs to the machine '{host}', and is a copy or was moved here; {CLAIM}"
    assert send(site).errors == [text]
    assert site.call(site.folder, "db", "claim").code == 0
    assert send(site).code == 0
    monkeypatch.setattr(ownership, "MACHINE_ID", tmp_path / "2")
    assert send(site).errors == [text]
    monkeypatch.setattr(ownership, "MACHINE_ID", tmp_path / "1")
    assert send(site).code == 0


def test_machines_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a machine id the host name counts, and the machine id itself is not stored."""
    names = {"": "", "id": "a" * 32, "other": "b" * 32, "starting": "uninitialized"}
    hashes = {}
    for name, text in names.items():
        if text:
            (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setattr(ownership, "MACHINE_ID", tmp_path / (name or "absent"))
        hashes[name] = identify_machine()
        assert "a" * 32 not in hashes[name]
    assert hashes[""] == hashes["starting"]
    assert len(set(hashes.values())) == 3
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert identify_machine() != hashes["starting"]


def test_a_symbolic_link_is_the_same_path(site: SiteWithServer) -> None:
    """A folder that is reached by a symbolic link is where it was."""
    link = site.folder.with_name("link")
    link.symlink_to(site.folder)
    assert send(site).code == 0
    assert site.call(link, "send").out == NOTHING_DUE


@pytest.mark.parametrize("command", [("plan",), ("status",), ("status", "--json")])
def test_looking_at_a_copy_warns(site: SiteWithServer, command: tuple[str, ...]) -> None:
    """`plan` and `status` work in a copy, and warn that `send` will not."""
    other = copy(site, "copy")
    assert site.call(site.folder, *command).warnings == []
    looked = site.call(other.folder, *command)
    assert (looked.code, looked.warnings) == (0, [other_path(site.folder, other.folder)])


def test_a_ledger_that_moves_is_not_compared(
    site: SiteWithServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In CI the file travels between machines: options compare the site only."""
    for number in range(3):
        (tmp_path / str(number)).write_text(str(number) * 32)
        monkeypatch.setattr(ownership, "MACHINE_ID", tmp_path / str(number))
        runner = copy(site, f"runner-{number}")
        assert send(runner, "--keep-ledger-here").code == 0
        site = runner
    monkeypatch.setenv("POSTROOM_KEEP_LEDGER_HERE", "1")
    monkeypatch.setenv("CI", "true")
    last = copy(site, "last")
    assert site.call(last.folder, "plan").warnings == []
    assert send(last).out == NOTHING_DUE
    assert dict(site.email_counts()) == {"a@example.com": 1, "b@example.com": 1}
    monkeypatch.setenv("POSTROOM_KEEP_LEDGER_HERE", "perhaps")
    line = "POSTROOM_KEEP_LEDGER_HERE: found 'perhaps'; set it to 1, or unset it"
    assert (send(last).code, send(last).errors) == (2, [line])


def test_a_ledger_of_ci_is_not_sent_from_elsewhere(
    make_site: MakeSite, postroom: Postroom, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was made to travel belongs to no machine until somebody claims it."""
    site = SiteWithServer(make_site({"posts/a.md": POST}, MAIL), server, postroom)
    monkeypatch.setenv("POSTROOM_KEEP_LEDGER_HERE", "yes")
    site.add("a@example.com")
    monkeypatch.delenv("POSTROOM_KEEP_LEDGER_HERE")
    refused = send(site)
    assert refused.code == 1
    assert refused.errors[0].startswith(f"{NAME}: was used with --keep-ledger-here, so another")
    assert server.commands == []
    # `status` has no option to repeat, so it does not ask for one.
    assert site.call(site.folder, "status").warnings == []
    assert site.call(site.folder, "db", "claim").code == 0
    assert send(site).code == 0


def test_another_site_sends_nothing(
    site: SiteWithServer, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """A database is refused by a site with another id, also with the option for CI."""
    other = copy(site, "two")
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
    site.add("a@example.com")
    (other.folder / "postroom.yaml").write_text(SETTINGS.replace(*OTHER_ID) + MAIL)
    message = (
        "POSTROOM_DATABASE_URL: belongs to the site 'tag:news.example.com,2026:', and the id of "
        "this site is 'tag:other.example.com,2026:'; correct POSTROOM_DATABASE_URL or the id; "
        "if the site has a new id, run: postroom db claim"
    )
    for options in ((), ("--keep-ledger-here",)):
        assert (send(other, *options).code, send(other, *options).errors) == (1, [message])
    assert site.call(other.folder, "status").warnings == [message]
    assert site.server.commands == []
    assert site.call(other.folder, "db", "claim").code == 0
    assert send(other).code == 0
    assert send(site).code == 1


def test_postgresql_is_reached_from_every_machine(
    site: SiteWithServer,
    postgresql_server: postgresql.Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Two machines and two folders of a site share one PostgreSQL database; nothing goes twice."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", postgresql_server.emptied())
    site.add("a@example.com")
    assert send(site).code == 0
    (tmp_path / "machine").write_text("3" * 32)
    monkeypatch.setattr(ownership, "MACHINE_ID", tmp_path / "machine")
    other = copy(site, "other")
    assert send(other).out == NOTHING_DUE
    claimed = site.call(other.folder, "db", "claim")
    assert claimed.out == "POSTROOM_DATABASE_URL: claimed for tag:news.example.com,2026:\n"
    assert send(site).out == NOTHING_DUE


def test_an_unclaimed_database_is_claimed_by_the_first_run(
    make_site: MakeSite, postroom: Postroom, server: Scripted
) -> None:
    """Settings with a mistake leave a new database unclaimed; then the first `send` claims it."""
    folder = make_site({"posts/a.md": POST}, MAIL)
    (folder / "postroom.yaml").write_text("title: [\n")
    assert postroom(folder, "subscribers", "list").code == 0
    (folder / "postroom.yaml").write_text(SETTINGS + MAIL)
    site = SiteWithServer(folder, server, postroom)
    store = open_store(os.environ.get("POSTROOM_DATABASE_URL"), folder)
    with closing(store.database):
        assert store.claim.find() is None
    other = copy(site, "copy")
    assert send(site).code == 0
    assert send(other).code == 0
    assert send(copy(site, "later")).code == 1


def test_no_claim_during_a_run(site: SiteWithServer) -> None:
    """`db claim` waits for the end of a run that is sending."""
    with closing(site.store().database) as database, database.locked():
        outcome = site.call(site.folder, "db", "claim")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "another run is sending" in outcome.errors[0]


def test_bytes_in_a_path_are_no_difference(
    site: SiteWithServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database whose name is not UTF-8 is recognised again."""
    path = os.fsdecode(os.fsencode(site.folder) + b"/caf\xe9.db")
    monkeypatch.setenv("POSTROOM_DATABASE_URL", f"sqlite:///{path}")
    site.add("a@example.com")
    assert send(site).code == 0
    assert send(site).out == NOTHING_DUE


def test_the_first_difference_is_named() -> None:
    """Site, machine and path are compared in this order."""
    here = LedgerPlace("site", "machine", "host", "path")
    assert find_difference("db", None, here) is None
    assert find_difference("db", here, here) is None
    for claim, word in {
        LedgerPlace("other", "other", "host", "other"): "site 'other'",
        LedgerPlace("site", "other", "old", "other"): "machine 'old'",
        LedgerPlace("site", "machine", "host", "old"): "belongs at old",
        LedgerPlace("site"): "--keep-ledger-here",
    }.items():
        assert word in str(find_difference("db", claim, here))
        assert ("site" in word) == (find_difference("db", claim, LedgerPlace("site")) is not None)
