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

from postroom.cli.console import pluralize
from postroom.cli.context import current_instant, open_site_store
from postroom.db import engine
from postroom.db.store import Store
from postroom.mail import address
from postroom.mail.bounce_policy import COMPLAINT_SPAN, exceeds_complaint_limit, reply_status
from postroom.models import DeliveryRow, DeliveryState, PastRun, State
from postroom.settings.site import find_site, load_settings

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
    refused: tuple[DeliveryRow, ...]
    uncertain: tuple[DeliveryRow, ...]
    acknowledged: int
    deferred: tuple[DeliveryRow, ...]
    subscribers: Mapping[State, int]
    reports: Mapping[str, int]
    complaints: tuple[int, int]


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.option(
    "--acknowledge",
    is_flag=True,
    help="Leave emails that may or may not have arrived: count them as delivered, for ever.",
)
def command(*, as_json: bool, acknowledge: bool) -> None:
    """Show what was sent, what was not, and what to do about it.

    The last runs; how many letters are in which state; by name, whose email was refused, and whose
    may or may not have arrived; subscribers; what came back in the last 30 days. Nothing is
    changed, except with --acknowledge.

    \b
    postroom status
    postroom status --json
    postroom status --acknowledge
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    if (
        not os.environ.get(engine.DATABASE_URL_VAR)
        and not (site_dir / engine.DEFAULT_PATH).exists()
    ):
        # To look must not make one.
        if acknowledge:
            _show_acknowledged((), site.timezone, as_json=as_json)
        else:
            click.echo("{}" if as_json else "Nothing was sent yet, and nobody subscribes.")
        return
    with open_site_store(site_dir) as store:
        if acknowledge:
            _show_acknowledged(
                _acknowledge(store, current_instant()), site.timezone, as_json=as_json
            )
            return
        found = _read(store, current_instant())
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=1))
        return
    for title, lines in _sections(found, site.timezone):
        shown = list(lines)
        if shown:
            click.secho(title, bold=True)
        for line in shown:
            click.echo(f"  {line}")


def _acknowledge(store: Store, now: datetime) -> tuple[DeliveryRow, ...]:
    """Close what is uncertain, and what a dead run left to become so; return it."""
    with store.database.turn() as is_ours:
        return store.deliveries.acknowledge(now, dead=is_ours)


def _show_acknowledged(entries: tuple[DeliveryRow, ...], zone: ZoneInfo, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"acknowledged": [_entry_as_json(one) for one in entries]}, indent=1))
    elif not entries:
        click.echo("nothing to acknowledge: no email is uncertain")
    else:
        click.echo(f"{pluralize(len(entries), 'email')} acknowledged; not sent again")
        for line in _named(entries, len(entries), zone):
            click.echo(f"  {line}")


def _read(store: Store, now: datetime) -> _Status:
    since, sending = now - COMPLAINT_SPAN, store.runs.is_under_way()
    with (
        closing(store.deliveries.refused()) as refused,
        closing(store.deliveries.uncertain()) as uncertain,
        closing(store.deliveries.rows("sending")) as handed_over,
        closing(store.deliveries.deferred()) as deferred,
    ):
        return _Status(
            store.runs.last(_RUNS),
            sending,
            store.deliveries.count_by_state(),
            tuple(refused),
            # What a dead run had in its hands is in doubt, before the next run writes that down.
            (*uncertain, *(() if sending else handed_over)),
            store.deliveries.count_acknowledged(),
            tuple(islice(deferred, _NAMES)),
            store.subscribers.count(),
            store.bounces.summary(since),
            store.bounces.complaints(since),
        )


def _sections(found: _Status, zone: ZoneInfo) -> Iterator[tuple[str, Iterator[str]]]:
    yield "Runs", _runs(found, zone)
    yield "Letters", _letters(found)
    yield "Refused", _named(found.refused[:_NAMES], len(found.refused), zone)
    yield "May or may not have arrived", _named(found.uncertain, len(found.uncertain), zone)
    yield (
        "Put off by the mail server",
        _named(found.deferred, _put_off(found), zone),
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
    if found.acknowledged:
        yield f"{found.acknowledged:,} of the uncertain acknowledged"


def _put_off(found: _Status) -> int:
    """Return how many are deferred, less the refused ones."""
    refused = sum(one.state == "deferred" for one in found.refused)
    return found.letters.get("deferred", 0) - refused


def _named(entries: tuple[DeliveryRow, ...], number: int, zone: ZoneInfo) -> Iterator[str]:
    """Yield who is named, and how many of `number` are not."""
    for entry in entries:
        since = (entry.refused or entry.since).astimezone(zone)
        line = f"{address.display_address(entry.address)}, {since:%Y-%m-%d %H:%M}"
        if entry.retry_at:
            line += f", again from {entry.retry_at.astimezone(zone):%H:%M}"
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
    if found.refused:
        yield (
            f"correct what the mail server said of the {pluralize(len(found.refused), 'email')} it "
            "refused; send tries again, at the latest with the next issue"
        )
    if found.uncertain:
        yield (
            "postroom send --resend-uncertain: send those again that may not have arrived; "
            "if one did, its reader has it twice"
        )
        yield (
            "postroom status --acknowledge: or leave them, counted as delivered; until then send "
            "ends with exit code 1"
        )
    if exceeds_complaint_limit(*found.complaints):
        complaints, letters = found.complaints
        yield (
            f"find out why {complaints:,} of {letters:,} letters were called spam; "
            "until then send refuses without --despite-complaints"
        )


def _counted(counts: Mapping[Any, int], order: tuple[Any, ...]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in order if counts.get(name))


def _entry_as_json(entry: DeliveryRow) -> dict[str, Any]:
    return {
        "address": entry.address,
        "since": (entry.refused or entry.since).isoformat(),
        "status": reply_status(entry.reply),
        "reply": entry.reply,
        "due": entry.retry_at.isoformat() if entry.retry_at else None,
        "issue": {
            "id": entry.issue,
            "frequency": entry.frequency,
            "cutoff": entry.cutoff.isoformat(),
            "language": entry.language,
        },
    }


def _as_json(found: _Status) -> dict[str, Any]:
    complaints, letters = found.complaints
    return {
        "sending": found.sending,
        "runs": [
            {
                "id": run.id,
                "started": run.started.isoformat(),
                "ended": run.ended.isoformat() if run.ended else None,
                "emails": dict(run.counts),
            }
            for run in found.runs
        ],
        "emails": dict(found.letters),
        "refused": [_entry_as_json(one) for one in found.refused],
        "uncertain": [_entry_as_json(one) for one in found.uncertain],
        "acknowledged": found.acknowledged,
        "subscribers": dict(found.subscribers),
        "reports": dict(found.reports),
        "complaints": {"complaints": complaints, "emails": letters},
        "advice": list(_advice(found)),
    }
