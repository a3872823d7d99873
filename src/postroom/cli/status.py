"""`postroom status`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import click
from attrs import frozen

from postroom import address, config
from postroom.cli.instant import present
from postroom.cli.opened import opened_store
from postroom.database import engine
from postroom.delivery.failure import COMPLAINT_SPAN, complaint_stop
from postroom.model import DeliveryState, Entry, PastRun, State
from postroom.store import Store

_RUNS = 5
_NAMES = 20
# In the order of a letter's life; cancelled ones were never owed.
_STATES: tuple[DeliveryState, ...] = (
    "planned",
    "sending",
    "sent",
    "deferred",
    "bounced",
    "uncertain",
)


@frozen
class _Status:
    """All that is shown."""

    runs: tuple[PastRun, ...]
    sending: bool
    letters: Mapping[DeliveryState, int]
    uncertain: tuple[Entry, ...]
    deferred: tuple[Entry, ...]
    subscribers: Mapping[State, int]
    reports: Mapping[str, int]
    complaints: tuple[int, int]


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def command(*, as_json: bool) -> None:
    """Show what was sent, what was not, and what to do about it.

    The last runs; how many letters are in which state; by name, whose letter may or may not have
    arrived; subscribers; what came back in the last 30 days. Nothing is changed.

    \b
    postroom status
    postroom status --json
    """
    newsroom = config.find_newsroom(Path.cwd())
    site = config.load(newsroom)
    if not os.environ.get(engine.VARIABLE) and not (newsroom / engine.FILE).exists():
        # To look must not make one.
        click.echo("{}" if as_json else "Nothing was sent yet, and nobody subscribes.")
        return
    with opened_store(newsroom) as store:
        found = _read(store, present())
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=1))
        return
    for title, lines in _sections(found, site.timezone):
        shown = list(lines)
        if shown:
            click.secho(title, bold=True)
        for line in shown:
            click.echo(f"  {line}")


def _read(store: Store, now: datetime) -> _Status:
    since, sending = now - COMPLAINT_SPAN, store.runs.is_under_way()
    with (
        closing(store.ledger.entries("uncertain")) as uncertain,
        closing(store.ledger.entries("sending")) as handed_over,
        closing(store.ledger.entries("deferred")) as deferred,
    ):
        return _Status(
            store.runs.last(_RUNS),
            sending,
            store.ledger.tally(),
            # What a dead run had in its hands is in doubt, before the next run writes that down.
            (*uncertain, *(() if sending else handed_over)),
            tuple(islice(deferred, _NAMES)),
            store.subscribers.count(),
            store.reports.summary(since),
            store.reports.complaints(since),
        )


def _sections(found: _Status, zone: ZoneInfo) -> Iterator[tuple[str, Iterator[str]]]:
    yield "Runs", _runs(found, zone)
    yield "Letters", _letters(found)
    yield "May or may not have arrived", _named(found.uncertain, len(found.uncertain), zone)
    yield (
        "Put off by the mail server",
        _named(found.deferred, found.letters.get("deferred", 0), zone),
    )
    yield "Subscribers", iter([_counted(found.subscribers, get_args(State)) or "none"])
    yield "Came back in 30 days", iter(f"{n:,} {kind}" for kind, n in found.reports.items())
    yield "What to do", _advice(found)


def _runs(found: _Status, zone: ZoneInfo) -> Iterator[str]:
    for number, run in enumerate(found.runs):
        began = run.started.astimezone(zone)
        if run.ended:
            end = f"to {run.ended.astimezone(zone):%H:%M:%S}"
        else:
            end = "is under way" if found.sending and not number else "was broken off"
        counts = _counted(run.counts, _STATES) or "no letters"
        yield f"{began:%Y-%m-%d %H:%M:%S} {end}: {counts}"


def _letters(found: _Status) -> Iterator[str]:
    yield _counted(found.letters, _STATES) or "none"


def _named(entries: tuple[Entry, ...], number: int, zone: ZoneInfo) -> Iterator[str]:
    """Yield who is named, and how many of `number` are not."""
    for entry in entries:
        line = f"{address.shown(entry.address)}, {entry.since.astimezone(zone):%Y-%m-%d %H:%M}"
        if entry.due:
            line += f", again from {entry.due.astimezone(zone):%H:%M}"
        yield f"{line}: {entry.reply or 'the run was broken off while it was on its way'}"
    if more := number - len(entries):
        yield f"and {more:,} more"


def _advice(found: _Status) -> Iterator[str]:
    if found.sending:
        yield "wait: a run is under way"
    elif waiting := sum(found.letters.get(state, 0) for state in ("planned", "deferred")):
        yield f"postroom send: {waiting:,} letter{'s' * (waiting != 1)} not sent yet"
    elif found.letters.get("sending"):
        yield "postroom send: a run was broken off"
    if found.uncertain:
        yield (
            "postroom send --resend-uncertain: send those again that may not have arrived; "
            "if one did, its reader has it twice"
        )
    if complaint_stop(*found.complaints):
        complaints, letters = found.complaints
        yield (
            f"find out why {complaints:,} of {letters:,} letters were called spam; "
            "until then send refuses without --despite-complaints"
        )


def _counted(counts: Mapping[Any, int], order: tuple[Any, ...]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in order if counts.get(name))


def _as_json(found: _Status) -> dict[str, Any]:
    complaints, letters = found.complaints
    return {
        "sending": found.sending,
        "runs": [
            {
                "id": run.id,
                "started": run.started.isoformat(),
                "ended": run.ended.isoformat() if run.ended else None,
                "letters": dict(run.counts),
            }
            for run in found.runs
        ],
        "letters": dict(found.letters),
        "uncertain": [
            {"address": one.address, "since": one.since.isoformat(), "reply": one.reply}
            for one in found.uncertain
        ],
        "subscribers": dict(found.subscribers),
        "reports": dict(found.reports),
        "complaints": {"complaints": complaints, "letters": letters},
        "advice": list(_advice(found)),
    }
