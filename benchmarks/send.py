"""Time the sending of emails to a local mail server that discards them, by four senders.

    python benchmarks/send.py [--emails 20000] [--size 20] [--connections 4 16] [--rounds 3]
                              [--senders postfix smtplib sqlite postgresql] [--folder DIR] [--where]

The senders take turns, round by round, each with as many connections, which are reused: Postfix's
smtp-source, which is the machine's limit; a bare loop of smtplib's sendmail on threads, without a
ledger; and `postroom send` with its ledger on SQLite and on PostgreSQL. Rates are medians, ratios
those to smtp-source in the same run. Every outcome waits for the disk that holds the ledger, so
look at the time of its fdatasync, too; --folder puts the ledger elsewhere, such as /dev/shm.

`postroom send` is a process; the time of the same command with nothing due is subtracted.
--where tells where its time goes: a few of its methods are timed.

Debian's package postfix has the programs of the first sender and of the mail server.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve
from senders import Run, Setup, by_postfix, by_postroom, by_smtplib, sink, used

SENDERS = ("postfix", "smtplib", "sqlite", "postgresql")
NAMES = {
    "postfix": "smtp-source",
    "smtplib": "smtplib.sendmail",
    "sqlite": "postroom send, SQLite",
    "postgresql": "postroom send, PostgreSQL",
}
ORIGINAL = "original"
PARAGRAPH = "Words of Köln and elsewhere, twelve of them in a line, and then some more of them.\n\n"
SETTINGS = """\
title: Example News
url: https://news.example.com/
id: "tag:news.example.com,2026:"
language: en
timezone: UTC
contact: {{organization: Example, address: "Example Street 1, 12345 Example"}}
digest: {{every: month}}
mail:
  from: Example News <news@example.com>
  bounces: bounces@example.com
  unsubscribe: https://news.example.com
  rate: 100000
  connections: {connections}
"""


# The site


def write_site(folder: Path, paragraphs: int, connections: int) -> None:
    """Write settings and one post of today."""
    (folder / "posts").mkdir(parents=True, exist_ok=True)
    settings = SETTINGS.format(connections=connections)
    (folder / "postroom.yaml").write_text(settings, encoding="utf-8")
    today = datetime.now(UTC).date()
    head = (
        f"---\ntitle: We moved to Köln\ndate: {today}\nid: tag:news.example.com,2026:moved\n---\n"
    )
    (folder / "posts" / "moved.md").write_text(head + PARAGRAPH * paragraphs, encoding="utf-8")


def subscribe(setup: Setup, folder: Path, number: int, url: str | None = None) -> None:
    """Import so many subscribers who get every post."""
    rows = "".join(f"reader.{n}@mail{n % 100}.example.com\n" for n in range(number))
    (folder / "list.csv").write_text("email\n" + rows, encoding="utf-8")
    words = "-m postroom subscribers import --confirmed --frequency post list.csv"
    used([sys.executable, *words.split()], cwd=folder, env=setup.environment(url))


def fitted(setup: Setup) -> tuple[int, int]:
    """Return how many paragraphs make an email of about the size, and the size that it then has."""
    folder = setup.folder / "fitting"
    few, many = 10, 50
    write_site(folder, few, 1)
    subscribe(setup, folder, 1)
    least = email_size(setup, folder)
    write_site(folder, many, 1)
    each = (email_size(setup, folder) - least) / (many - few)
    needed = max(1, few + round((setup.size - least) / each))
    write_site(folder, needed, 1)
    return needed, email_size(setup, folder)


def email_size(setup: Setup, folder: Path) -> int:
    """Return how many bytes the email about the site's post has, by `postroom plan`."""
    command = [sys.executable, "-m", "postroom", "plan", "--json"]
    output = used(command, cwd=folder, env=setup.environment())[2]
    found = re.search(r'"bytes": (\d+)', output)
    if not found:
        sys.exit(f"postroom plan shows no issue:\n{output[-2000:]}")
    return int(found[1])


class SiteCopies:
    """A site with a subscriber for each email, and fresh copies of it for every round."""

    def __init__(self, setup: Setup, paragraphs: int, server: Any = None) -> None:  # noqa: ANN401 - of the tests
        """Import the subscribers, into SQLite or into the one database of `server`."""
        self._setup, self._paragraphs, self._server = setup, paragraphs, server
        self._original = setup.folder / ("postgresql" if server else "sqlite")
        self._copies = 0
        write_site(self._original, paragraphs, 1)
        if server:
            server.execute(f"CREATE DATABASE {ORIGINAL}")
        subscribe(setup, self._original, setup.emails, self._url(ORIGINAL) if server else None)

    def run(self, connections: int, command: Sequence[str] = ("-m", "postroom")) -> Run:
        """Send the emails of a new copy, in which nothing has been sent yet."""
        with tempfile.TemporaryDirectory(dir=self._setup.folder) as name:
            site_dir = Path(name) / "site"
            shutil.copytree(self._original, site_dir)
            write_site(site_dir, self._paragraphs, connections)
            return by_postroom(self._setup, site_dir, self._database(), command)

    def _database(self) -> str | None:
        if self._server is None:
            return None
        self._server.execute(f"DROP DATABASE IF EXISTS copy_{self._copies}")
        self._copies += 1
        self._server.execute(f"CREATE DATABASE copy_{self._copies} TEMPLATE {ORIGINAL}")
        return self._url(f"copy_{self._copies}")

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._server.folder}"


def show_where(setup: Setup, copies: SiteCopies, sender: str, connections: int) -> None:
    """Print where the time of one `postroom send` goes, for each email."""
    target = setup.folder / "clocks.json"
    target.unlink(missing_ok=True)
    run = copies.run(connections, (str(Path(__file__).with_name("clocks.py")), str(target)))
    first = json.loads(target.read_text(encoding="utf-8").splitlines()[0])
    print(f"\n{NAMES[sender]}, {connections} connections: µs for each email (with timers)")
    print(f"{'':28}{'calls':>8}{'processor':>12}{'waiting':>12}")
    for name, (calls, cpu, wall) in first.items():
        each = [value / setup.emails for value in (calls, cpu * 1e6, max(0, wall - cpu) * 1e6)]
        print(f"{name:28}{each[0]:>8.2f}{each[1]:>12.1f}{each[2]:>12.1f}")
    known = sum(cpu for name, (_, cpu, _) in first.items() if not name.startswith(" "))
    print(f"{'the rest, planning too':28}{'':8}{run.cpu - known / setup.emails * 1e6:>12.1f}")
    print(f"{'all, without start-up':28}{'':8}{run.cpu:>12.1f}")


# The table


def sync_time(folder: Path) -> float:
    """Return how many ms an fdatasync of a few pages takes in the folder."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            os.write(file.fileno(), b"x" * 16_384)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def missing(sender: str) -> str:
    """Return why a sender cannot be measured here, or nothing."""
    if sender in {"sqlite", "postgresql"}:
        help_ = [sys.executable, "-m", "postroom", "send", "--help"]
        if subprocess.run(help_, capture_output=True, check=False).returncode:
            return "there is no `postroom send`"
    return ""


def prepared(
    setup: Setup, senders: Sequence[str], paragraphs: int, stack: ExitStack
) -> dict[str, SiteCopies]:
    """Return the copies of the senders that need one; a server runs as long as `stack`."""
    made: dict[str, SiteCopies] = {}
    if "sqlite" in senders:
        made["sqlite"] = SiteCopies(setup, paragraphs)
    if "postgresql" in senders:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from tests.support import postgresql  # noqa: PLC0415 - from the folder above

        try:
            server = stack.enter_context(postgresql.running(durable=True))
        except postgresql.MissingError as error:
            print(f"{NAMES['postgresql']}: {error}")
        else:
            made["postgresql"] = SiteCopies(setup, paragraphs, server)
    return made


def measure(
    setup: Setup,
    senders: Sequence[str],
    sites: Mapping[str, SiteCopies],
    connections: int,
    rounds: int,
) -> dict[str, list[Run]]:
    """Let the senders take turns; return the runs of each."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for _ in range(rounds):
        for sender in senders:
            if sender in sites:
                runs[sender].append(sites[sender].run(connections))
            else:
                runs[sender].append(BARE[sender](setup, connections))
    return runs


def show(connections: int, runs: Mapping[str, Sequence[Run]]) -> None:
    """Print the lines of one number of connections."""
    rates = {sender: statistics.median(run.rate for run in taken) for sender, taken in runs.items()}
    for sender, taken in runs.items():
        ratios = (
            f"{rates[sender] / rates[other]:>12.2f}" if other in rates else f"{'':12}"
            for other in ("postfix", "smtplib")
        )
        cpu = statistics.median(run.cpu for run in taken)
        best = max(run.rate for run in taken)
        line = f"{connections:>5}  {NAMES[sender]:28}{rates[sender]:>10,.0f}{best:>10,.0f}"
        line += f"{cpu:>9,.0f} µs"
        print(line + "".join(ratios), flush=True)
    for sender, taken in runs.items():
        if taken[0].output.strip():
            print(f"       {NAMES[sender]} output: {taken[0].output.strip().splitlines()[-1]}")


BARE: dict[str, Callable[[Setup, int], Run]] = {"postfix": by_postfix, "smtplib": by_smtplib}


def compare(chosen: argparse.Namespace, setup: Setup, stack: ExitStack) -> None:
    """Run all senders and print the table."""
    senders = []
    for sender in chosen.senders:
        if why := missing(sender):
            print(f"{NAMES[sender]}: {why}")
        else:
            senders.append(sender)
    paragraphs, size = fitted(setup)
    setup = evolve(setup, size=size)
    sites = prepared(setup, senders, paragraphs, stack)
    senders = [sender for sender in senders if sender in BARE or sender in sites]
    print(f"{setup.emails:,} emails of {size:,} bytes, {chosen.rounds} rounds")
    print(f"fdatasync {sync_time(setup.folder):.2f} ms, {os.cpu_count()} processors")
    print(f"{'conn.':>5}  {'sender':28}{'emails/s':>10}{'best':>10}{'processor':>12}", end="")
    print(f"{'to source':>12}{'to smtplib':>12}", flush=True)
    for connections in chosen.connections:
        show(connections, measure(setup, senders, sites, connections, chosen.rounds))
    if chosen.where:
        for sender, copies in sites.items():
            for connections in chosen.connections:
                show_where(setup, copies, sender, connections)


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--emails", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=20, help="KB of an email")
    parser.add_argument("--connections", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--senders", nargs="+", choices=SENDERS, default=SENDERS)
    parser.add_argument("--folder", type=Path, help="where the ledger is, for a while")
    parser.add_argument("--where", action="store_true", help="tell where the time goes")
    return parser.parse_args()


def main() -> None:
    """Run all senders and print a table."""
    chosen = arguments()
    with (
        tempfile.TemporaryDirectory(prefix="postroom-send-", dir=chosen.folder) as name,
        ExitStack() as stack,
    ):
        port = stack.enter_context(sink())
        compare(chosen, Setup(port, chosen.emails, chosen.size * 1000, Path(name)), stack)


if __name__ == "__main__":
    main()
