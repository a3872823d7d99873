"""Time the import of many subscribers and the planning of their deliveries, and measure the memory.

    python benchmarks/subscribers.py [--rows 1000000] [--url postgresql://user@host/empty]

Each step runs in a process of its own. Its memory is the peak, less that of the process before
the step. Without --url the database is SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

from postroom.db.store import Store, open_store
from postroom.mail.tokens import Keys
from postroom.models import Cursor, DeliveryOutcome, IssueSnapshot, Segment
from postroom.subscribers import importer

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
CUTOFF = date(2026, 12, 1)
KEYS = Keys((b"a key for measuring only",))
STEPS = ("import", "import again", "group", "plan", "replan", "claim and record", "list", "export")


def write_list(path: Path, rows: int) -> None:
    """Write a list of addresses with a few topics, frequencies and languages, always the same."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("email", "name", "frequency", "topics", "language"))
        for number in range(rows):
            mark = hashlib.sha256(str(number).encode()).digest()
            frequency = ("post", "day", "week", "month")[mark[0] % 4]
            topics = ("", "Products", "Company", "Company,Products")[mark[1] % 4]
            language = ("", "en", "de")[mark[2] % 3]
            address = f"reader.{mark[:4].hex()}.{number}@mail{mark[3] % 100}.example.com"
            writer.writerow((address, "A Name", frequency, topics, language))


def take(store: Store, path: Path) -> int:
    """Import the list."""
    terms = importer.ImportTerms(
        at=NOW,
        frequency="month",
        cursor_for=lambda _: Cursor(date(2026, 11, 1)),
        hashed=KEYS.suppression,
        consent="asked for by a benchmark",
    )
    book = importer.SubscriberStore(store.subscribers, store.suppressions)
    with path.open("rb") as source:
        tally = importer.import_csv(source, path.name, book, terms, print)
    return tally.added + tally.known


def group(store: Store, _path: Path) -> int:
    """Group all active subscribers; return how many are in the groups."""
    return sum(number for _, number in store.segments.groups())


def plan(store: Store, _path: Path) -> int:
    """Plan an issue for every group."""
    run = store.runs.begin(NOW)
    planned = 0
    for members, _ in list(store.segments.groups()):
        posts = (members.frequency, *sorted(members.topics))
        issue = IssueSnapshot(
            members.frequency, CUTOFF, members.language, posts, NOW, b"x" * 30_000
        )
        number = store.issues.freeze(issue)
        planned += store.deliveries.plan(run, Segment(members), number, Cursor(CUTOFF), NOW)
    store.deliveries.cancel_stale(run, NOW)
    store.runs.end(run, NOW)
    return planned


def send(store: Store, _path: Path, emails: int = 20_000, connections: int = 10) -> int:
    """Claim and record, `connections` at a time, the first deliveries of a plan."""
    run = store.runs.begin(NOW)
    for members, _ in list(store.segments.groups())[:1]:
        number = store.issues.freeze(IssueSnapshot(members.frequency, CUTOFF, "", ("x",), NOW))
        store.deliveries.plan(run, Segment(members), number, Cursor(CUTOFF), NOW)
    done = 0
    hash_key = KEYS.suppression
    claimed = store.deliveries.record_and_claim(run, (), connections, NOW, hash_key)
    while claimed and done < emails:
        outcomes = [sent(delivery.id) for delivery in claimed]
        done += len(outcomes)
        claimed = store.deliveries.record_and_claim(run, outcomes, connections, NOW, hash_key)
    store.runs.end(run, NOW)
    return done


def sent(delivery: int) -> DeliveryOutcome:
    """Return the outcome of a delivery that the server accepted."""
    return DeliveryOutcome(delivery, "sent", "250 2.0.0 Ok")


def list_all(store: Store, _path: Path) -> int:
    """Read every subscriber."""
    with closing(store.subscribers.every()) as everyone:
        return sum(1 for _ in everyone)


def export(store: Store, _path: Path) -> int:
    """Write every subscriber as CSV to nowhere."""
    everyone = store.subscribers.every()
    with Path(os.devnull).open("w", encoding="utf-8") as target, closing(everyone):
        return importer.export_csv(everyone, target)


WORK: dict[str, Callable[[Store, Path], int]] = {
    "import": take,
    "import again": take,
    "group": group,
    "plan": plan,
    "replan": plan,
    "claim and record": send,
    "list": list_all,
    "export": export,
}


def weight(name: str) -> float:
    """Return a weight of this process in MB: VmRSS, the present one, or VmHWM, the peak."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def step(name: str, folder: Path, url: str | None) -> None:
    """Run one step in this process and print its line of the table."""
    store = open_store(url, folder)
    list(store.events.of(0))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = weight("VmRSS")
    start = time.perf_counter()
    count = WORK[name](store, folder / "list.csv")
    seconds = time.perf_counter() - start
    peak = weight("VmHWM") - before
    print(f"{name:18}{count:>10}{seconds:>10.1f} s{count / seconds:>12,.0f}/s{peak:>8.1f} MB")


def main() -> None:
    """Run all steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        step(chosen.step, chosen.folder, chosen.url)
        return
    with tempfile.TemporaryDirectory() as name:
        write_list(Path(name) / "list.csv", chosen.rows)
        print(f"{'step':18}{'rows':>10}{'time':>12}{'rate':>14}{'memory':>11}", flush=True)
        for each in STEPS:
            same = [
                "--folder",
                name,
                "--step",
                each,
                *(("--url", chosen.url) if chosen.url else ()),
            ]
            subprocess.run([sys.executable, __file__, *same], check=True)


if __name__ == "__main__":
    main()
