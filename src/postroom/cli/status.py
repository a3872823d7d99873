"""`postroom status`: runs, deliveries by state, and what to do."""

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
from postroom.cli.context import current_instant, open_site_store, warn_of_claim
from postroom.db import engine
from postroom.db.store import Store
from postroom.mail import address
from postroom.mail.bounce_policy import COMPLAINT_SPAN, exceeds_complaint_limit, reply_status
from postroom.models import DeliveryRow, DeliveryState, PastRun, State
from postroom.settings.site import find_site, load_settings

# How many runs, and how many deliveries of a section, are shown.
_MAX_RUNS = 5
_MAX_ROWS = 20
# In the order of a delivery's life; cancelled ones are not shown.
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
    """Everything that `postroom status` shows."""

    runs: tuple[PastRun, ...]
    is_sending: bool
    emails: Mapping[DeliveryState, int]
    refused: tuple[DeliveryRow, ...]
    uncertain: tuple[DeliveryRow, ...]
    acknowledged: int
    deferred: tuple[DeliveryRow, ...]
    subscribers: Mapping[State, int]
    reports: Mapping[str, int]
    complaints: tuple[int, int]


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--acknowledge",
    is_flag=True,
    help="Count emails that may or may not have arrived as delivered, for ever.",
)
def command(*, as_json: bool, acknowledge: bool) -> None:
    """Show what was sent, what was not, and what to do about it.

    It shows the last runs; emails by state; the subscribers whose email was refused, deferred, or
    may or may not have arrived; subscribers by state; bounces and complaints of the last 30 days.
    Nothing is changed, except with --acknowledge.

    \b
    Example:
      postroom status
      postroom status --json
      postroom status --acknowledge
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    zone = site.timezone
    if not (os.environ.get(engine.DATABASE_URL_VAR) or (site_dir / engine.DEFAULT_PATH).exists()):
        # Looking must not create a database.
        if acknowledge:
            _print_acknowledged((), zone, as_json=as_json)
        else:
            click.echo("{}" if as_json else "Nothing was sent yet, and there are no subscribers.")
        return
    with open_site_store(site_dir) as store:
        warn_of_claim(store, site.id)
        if acknowledge:
            rows = _acknowledge(store, current_instant())
            _print_acknowledged(rows, zone, as_json=as_json)
            return
        status = _read(store, current_instant())
    if as_json:
        click.echo(json.dumps(_as_json(status), indent=1))
    else:
        _print(status, zone)


def _print(status: _Status, zone: ZoneInfo) -> None:
    for title, section in _sections(status, zone):
        lines = list(section)
        if lines:
            click.secho(title, bold=True)
        for line in lines:
            click.echo(f"  {line}")


def _acknowledge(store: Store, now: datetime) -> tuple[DeliveryRow, ...]:
    """Acknowledge uncertain deliveries, including those that a crashed run left in `sending`."""
    with store.database.locked() as is_ours:
        return store.deliveries.acknowledge(now, dead=is_ours)


def _print_acknowledged(rows: tuple[DeliveryRow, ...], zone: ZoneInfo, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"acknowledged": [_row_as_json(row) for row in rows]}, indent=1))
    elif not rows:
        click.echo("nothing to acknowledge: no email is uncertain")
    else:
        click.echo(f"{pluralize(len(rows), 'email')} acknowledged; not sent again")
        for line in _row_lines(rows, len(rows), zone):
            click.echo(f"  {line}")


def _read(store: Store, now: datetime) -> _Status:
    since, is_sending = now - COMPLAINT_SPAN, store.runs.is_under_way()
    with (
        closing(store.deliveries.refused()) as refused,
        closing(store.deliveries.uncertain()) as uncertain,
        closing(store.deliveries.rows("sending")) as sending,
        closing(store.deliveries.deferred()) as deferred,
    ):
        return _Status(
            store.runs.last(_MAX_RUNS),
            is_sending,
            store.deliveries.count_by_state(),
            tuple(refused),
            # Deliveries that a crashed run left in `sending` are as good as uncertain.
            (*uncertain, *(() if is_sending else sending)),
            store.deliveries.count_acknowledged(),
            tuple(islice(deferred, _MAX_ROWS)),
            store.subscribers.count(),
            store.bounces.summary(since),
            store.bounces.complaints(since),
        )


def _sections(status: _Status, zone: ZoneInfo) -> Iterator[tuple[str, Iterator[str]]]:
    refused, uncertain = status.refused, status.uncertain
    yield "Runs", _run_lines(status, zone)
    yield "Emails", _email_lines(status)
    yield "Refused", _row_lines(refused[:_MAX_ROWS], len(refused), zone)
    yield "May or may not have arrived", _row_lines(uncertain, len(uncertain), zone)
    yield (
        "Deferred by the mail server",
        _row_lines(status.deferred, _count_deferred(status), zone),
    )
    yield "Subscribers", iter([_join_counts(status.subscribers, get_args(State)) or "none"])
    reports = (f"{count:,} {kind}" for kind, count in status.reports.items())
    yield "Bounces and complaints in 30 days", reports
    yield "What to do", _advice(status)


def _run_lines(status: _Status, zone: ZoneInfo) -> Iterator[str]:
    for index, run in enumerate(status.runs):
        began = run.started.astimezone(zone)
        if run.ended:
            end = f"to {run.ended.astimezone(zone):%H:%M:%S}"
        else:
            end = "is under way" if status.is_sending and not index else "was interrupted"
        counts = _join_counts(run.counts, _STATES) or "no emails"
        yield f"{began:%Y-%m-%d %H:%M:%S} {end}: {counts}"


def _email_lines(status: _Status) -> Iterator[str]:
    yield _join_counts(status.emails, _STATES) or "none"
    if status.acknowledged:
        yield f"{status.acknowledged:,} of the uncertain acknowledged"


def _count_deferred(status: _Status) -> int:
    """Return how many deliveries are deferred, except those that are listed as refused."""
    refused = sum(row.state == "deferred" for row in status.refused)
    return status.emails.get("deferred", 0) - refused


def _row_lines(rows: tuple[DeliveryRow, ...], total: int, zone: ZoneInfo) -> Iterator[str]:
    """Yield a line for each row, then "and N more" if `total` is more than these rows."""
    for row in rows:
        since = (row.refused or row.since).astimezone(zone)
        line = f"{address.display_address(row.address)}, {since:%Y-%m-%d %H:%M}"
        if row.retry_at:
            line += f", again from {row.retry_at.astimezone(zone):%H:%M}"
        yield f"{line}: {row.reply or 'the run was interrupted while the email was in flight'}"
    if more := total - len(rows):
        yield f"and {more:,} more"


def _advice(status: _Status) -> Iterator[str]:
    if status.is_sending:
        yield "wait: a run is under way"
    elif waiting := sum(status.emails.get(state, 0) for state in ("planned", "deferred")):
        yield f"postroom send: {pluralize(waiting, 'email')} not sent yet"
    elif status.emails.get("sending"):
        yield "postroom send: a run was interrupted"
    if status.refused:
        yield (
            f"correct the cause of the {pluralize(len(status.refused), 'refused email')}; "
            "send tries again, at the latest with the next issue"
        )
    if status.uncertain:
        yield (
            "postroom send --resend-uncertain: send the uncertain emails again; "
            "a subscriber whose email did arrive receives it twice"
        )
        yield (
            "postroom status --acknowledge: or count them as delivered; until then send ends with "
            "exit code 1"
        )
    if exceeds_complaint_limit(*status.complaints):
        complaints, emails = status.complaints
        yield (
            f"find out why {complaints:,} of {emails:,} emails were reported as spam; "
            "until then send refuses without --despite-complaints"
        )


def _join_counts(counts: Mapping[Any, int], order: tuple[Any, ...]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in order if counts.get(name))


def _row_as_json(row: DeliveryRow) -> dict[str, Any]:
    return {
        "address": row.address,
        "since": (row.refused or row.since).isoformat(),
        "status": reply_status(row.reply),
        "reply": row.reply,
        "due": row.retry_at.isoformat() if row.retry_at else None,
        "issue": {
            "id": row.issue,
            "frequency": row.frequency,
            "cutoff": row.cutoff.isoformat(),
            "language": row.language,
        },
    }


def _as_json(status: _Status) -> dict[str, Any]:
    complaints, emails = status.complaints
    return {
        "sending": status.is_sending,
        "runs": [
            {
                "id": run.id,
                "started": run.started.isoformat(),
                "ended": run.ended.isoformat() if run.ended else None,
                "emails": dict(run.counts),
            }
            for run in status.runs
        ],
        "emails": dict(status.emails),
        "refused": [_row_as_json(row) for row in status.refused],
        "uncertain": [_row_as_json(row) for row in status.uncertain],
        "acknowledged": status.acknowledged,
        "subscribers": dict(status.subscribers),
        "reports": dict(status.reports),
        "complaints": {"complaints": complaints, "emails": emails},
        "advice": list(_advice(status)),
    }
