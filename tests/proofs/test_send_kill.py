"""A `send` that is killed at any moment loses no delivery and sends no email twice unnoticed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from tests.support import postgresql
from tests.support.processes import Process
from tests.support.sending_site import SENDER
from tests.support.site import POST, SETTINGS

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
POSTROOM = [sys.executable, "-m", "postroom"]
SEND = ["send", "--keep-ledger-here"]
CONNECTIONS = 4
SEED = 20261201


@define
class MailServer:
    """The SMTP server's process, and its log since `forget`."""

    port: int
    log: Path
    _start: int = 0

    def forget(self) -> None:
        """Start a new log."""
        self._start = self.log.stat().st_size

    def lines(self) -> list[tuple[str, str]]:
        """Return recipient and Message-ID of every accepted message."""
        text = self.log.read_bytes()[self._start :].decode("ascii")
        return [(to, message) for to, message in (line.split(" ") for line in text.splitlines())]

    def count(self) -> int:
        """Return the size of the log in bytes, which is quick to read."""
        return self.log.stat().st_size - self._start


@contextmanager
def mail_server(folder: Path) -> Iterator[MailServer]:
    """Run the SMTP server for a block."""
    log = folder / "mail.log"
    process = Process(
        [sys.executable, str(HERE / "mailserver.py"), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        try:
            yield MailServer(int(process.stdout.readline()), log)
        finally:
            process.kill()


@frozen
class Newsroom:
    """A site whose subscribers are all due one email, and the commands in it."""

    folder: Path
    readers: int
    server: MailServer
    database: str = ""

    def environment(self, mutant: str = "") -> dict[str, str]:
        """Return the environment of its commands."""
        return {
            **os.environ,
            "POSTROOM_SMTP_URL": f"smtp://127.0.0.1:{self.server.port}",
            "POSTROOM_SECRET_KEY": "a secret key of the proofs",
            "POSTROOM_DATABASE_URL": self.database,
            "POSTROOM_MUTANT": mutant,
        }

    def start(self, *command: str, mutant: str = "") -> Process[str]:
        """Start a command."""
        return Process(
            command,
            cwd=self.folder,
            env=self.environment(mutant),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, mutant: str = "") -> tuple[int, str]:
        """Run a command to its end; return its exit code and output."""
        with self.start(*command, mutant=mutant) as process:
            said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def status(self) -> dict[str, Any]:
        """Return the output of `postroom status`."""
        _, said = self.run(*POSTROOM, "status", "--json")
        found: dict[str, Any] = json.loads(said)
        return found

    def uncertain(self) -> set[str]:
        """Return the addresses that `postroom status` lists as uncertain."""
        return {delivery["address"] for delivery in self.status()["uncertain"]}

    def states(self) -> Counter[str]:
        """Return the number of deliveries in each state, as the killed process left them."""
        with closing(sqlite3.connect(self.folder / ".postroom/postroom.db")) as connection:
            asked = "SELECT state, count(*) FROM deliveries GROUP BY state"
            return Counter(dict(connection.execute(asked).fetchall()))

    def release(self) -> None:
        """Remove the claim of the database, so that each copy is claimed by its first command."""
        with closing(sqlite3.connect(self.folder / ".postroom/postroom.db")) as connection:
            connection.execute("DELETE FROM ledger_claim")
            connection.commit()


def site_dir(
    folder: Path,
    readers: int,
    server: MailServer,
    *,
    connections: int = CONNECTIONS,
    database: str = "",
) -> Newsroom:
    """Make a site with one post and this many subscribers who are due it."""
    (folder / "posts").mkdir(parents=True)
    settings = f"{SETTINGS}{SENDER}  connections: {connections}\n  rate: 100000\n"
    (folder / "postroom.yaml").write_text(settings, "utf-8")
    (folder / "posts/a.md").write_text(POST, "utf-8")
    people = "".join(f"reader{number}@example.com\n" for number in range(readers))
    (folder / "people.csv").write_text(f"email\n{people}", "utf-8")
    made = Newsroom(folder, readers, server, database)
    options = ["--confirmed", "--frequency", "post", "--from", "2026-11-01"]
    assert made.run(*POSTROOM, "subscribers", "import", "people.csv", *options)[0] == 0
    return made


@frozen
class Verdict:
    """The result of comparing the SMTP server's log with `status`."""

    once: int
    named: int
    twice: frozenset[str]
    missing: frozenset[str]
    stuck: int

    @property
    def holds(self) -> bool:
        """Tell whether everybody has one email, and uncertain subscribers at most one.

        Deliveries that stay in `sending` would never be sent again.
        """
        return not (self.twice or self.missing or self.stuck)


def judge(room: Newsroom) -> Verdict:
    """Compare log and status of a site in which nothing is due any more."""
    taken = Counter(to for to, _ in room.server.lines())
    named = room.uncertain()
    everybody = {f"reader{number}@example.com" for number in range(room.readers)}
    return Verdict(
        sum(count == 1 for count in taken.values()),
        len(named),
        frozenset(to for to, count in taken.items() if count > 1),
        frozenset(everybody - set(taken) - named),
        room.status()["emails"].get("sending", 0),
    )


@frozen
class Kill:
    """One kill: after how many emails, with how many in flight and how many planned."""

    after: int
    out: int
    left: int


@define
class Killing:
    """The `send` of one site, killed repeatedly until all emails are sent."""

    room: Newsroom
    chance: random.Random
    kills: list[Kill] = field(factory=list)

    def until_done(self, most: int) -> None:
        """Send, and kill up to `most` times, each time after some more emails."""
        while len(self.kills) < most and self._killed():
            pass
        # The last runs are not killed. Uncertain deliveries stay open until they are acknowledged.
        codes = [self.room.run(*POSTROOM, *SEND)[0] for _ in range(2)]
        assert codes[-1] == (1 if self.room.uncertain() else 0)

    def _killed(self) -> bool:
        """Start a run and kill it at a random moment; tell whether it was still running."""
        before = self.room.server.count()
        letters, moment = self.chance.randint(1, 90), self.chance.random() * 0.004
        with self.room.start(*POSTROOM, *SEND) as process:
            until = before + letters * 70
            deadline = time.monotonic() + 60
            while self.room.server.count() < until and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            time.sleep(moment)
            process.kill()
            process.communicate()
        states = self.room.states()
        if process.returncode != -signal.SIGKILL:
            return False
        left = states["planned"] + states["deferred"]
        self.kills.append(Kill(len(self.room.server.lines()), states["sending"], left))
        return True


def test_a_killed_send_is_known_letter_by_letter(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A `send` killed at 100 random moments sends everybody one email, except uncertain ones.

    At least 80 of the kills find an email in flight and others planned. None leaves more uncertain
    deliveries than there are connections.
    """
    chance = random.Random(SEED)  # noqa: S311 - not for secrets
    kills: list[Kill] = []
    table = [f"kill -9 of `postroom send`, 2,000 readers, {CONNECTIONS} connections, seed {SEED}"]
    table.append(f"{'taken':>6} {'out':>4} {'left':>6}")
    try:
        with mail_server(tmp_path) as server:
            prepared = site_dir(tmp_path / "prepared", 2000, server)
            prepared.release()
            while len(kills) < 100:
                folder = tmp_path / f"newsroom{len(kills)}"
                shutil.copytree(prepared.folder, folder)
                room = Newsroom(folder, prepared.readers, server)
                kills += killed_and_judged(room, chance, 100 - len(kills), table)
    finally:
        hit = sum(kill.out > 0 and kill.left > 0 for kill in kills)
        table.append(f"{len(kills)} kills, {hit} of them with a letter out and others waiting")
        record_property("table", "\n".join(table))
    assert max(kill.out for kill in kills) <= CONNECTIONS
    assert (len(kills), hit >= 80) == (100, True)


def killed_and_judged(
    room: Newsroom, chance: random.Random, most: int, table: list[str]
) -> list[Kill]:
    """Do one `send` with up to `most` kills, judge it, and add a row to `table`."""
    room.server.forget()
    killing = Killing(room, chance)
    killing.until_done(most)
    table.extend(f"{kill.after:>6} {kill.out:>4} {kill.left:>6}" for kill in killing.kills)
    verdict = judge(room)
    table.append(
        f"  one send: {verdict.once} once, {verdict.named} in doubt and named, "
        f"{len(verdict.twice)} twice, {len(verdict.missing)} missing and unnamed"
    )
    assert verdict.holds, verdict
    assert verdict.named <= sum(kill.out for kill in killing.kills)
    again_for_the_named(room)
    return killing.kills


def again_for_the_named(room: Newsroom) -> None:
    """Resend uncertain emails: nobody lacks one, and a second copy is the same message."""
    named = room.uncertain()
    room.run(*POSTROOM, *SEND, "--resend-uncertain")
    taken = Counter(to for to, _ in room.server.lines())
    assert len(taken) == room.readers
    assert {to for to, count in taken.items() if count > 1} <= named
    assert max(taken.values()) <= 2
    assert len(set(room.server.lines())) == room.readers
    assert room.uncertain() == set()
    assert room.run(*POSTROOM, *SEND)[0] == 0


# Kills between ledger writes


def die(room: Newsroom, point: int, mutant: str = "") -> bool:
    """Run `send` and kill it at a point; tell whether the point exists."""
    code, said = room.run(sys.executable, str(HERE / "dying.py"), str(point), *SEND, mutant=mutant)
    assert code in (0, 1, -signal.SIGKILL), said
    return code == -signal.SIGKILL


def died_and_finished(room: Newsroom, point: int, mutant: str = "") -> bool:
    """Kill `send` at a point, then run it to its end; tell whether the point exists."""
    room.server.forget()
    was_there = die(room, point, mutant)
    for _ in range(2):
        room.run(sys.executable, str(HERE / "dying.py"), "0", *SEND, mutant=mutant)
    return was_there


def points_of(
    tmp_path: Path, server: MailServer, mutant: str = ""
) -> Iterator[tuple[int, Verdict]]:
    """Yield every point at which a small `send` can be killed, with the verdict."""
    prepared = site_dir(tmp_path / "small", 6, server, connections=2)
    prepared.release()
    for point in range(1, 200):
        folder = tmp_path / f"point{point}"
        shutil.copytree(prepared.folder, folder)
        room = Newsroom(folder, prepared.readers, server)
        if not died_and_finished(room, point, mutant):
            return
        yield point, judge(room)
        shutil.rmtree(folder)


def test_a_send_may_die_between_any_two_writes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A `send` killed before or after any transaction leaves at most two uncertain deliveries."""
    with mail_server(tmp_path) as server:
        judged = dict(points_of(tmp_path, server))
    named = Counter(verdict.named for verdict in judged.values())
    told = ", ".join(f"{number} in doubt at {count}" for number, count in sorted(named.items()))
    record_property("table", f"{len(judged)} points between ledger writes, all hold: {told}")
    assert [point for point, verdict in judged.items() if not verdict.holds] == []
    assert max(named) <= 2
    assert len(judged) > 20
    assert any(named[number] for number in (1, 2))


def test_a_send_on_postgresql_may_die_too(
    tmp_path: Path, postgresql_server: postgresql.Server
) -> None:
    """A `send` on PostgreSQL may be killed at every third point, too."""
    with mail_server(tmp_path) as server:
        for point in range(1, 200, 3):
            url = postgresql_server.emptied()
            room = site_dir(tmp_path / f"at{point}", 6, server, connections=2, database=url)
            if not died_and_finished(room, point):
                break
            assert judge(room).holds, point
        assert point > 20


@pytest.mark.parametrize("mutant", ["no sweep", "sweep to planned", "sent too early"])
def test_the_proof_sees_a_broken_ledger(tmp_path: Path, mutant: str) -> None:
    """The proof finds a ledger that forgets, resends uncertain emails, or records too early."""
    with mail_server(tmp_path) as server:
        judged = points_of(tmp_path, server, mutant)
        assert any(not verdict.holds for _, verdict in judged)
