"""The run's clock and the calendar of the letters (delivery rules, rules 1, 3, 14 and 15)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from attrs import frozen

from postroom.errors import Problem, StoppedError
from postroom.model import Bookmark, Frequency, Release

PATIENCE = timedelta(days=40)
"""A clock further ahead of the last run than this may be a wrong one."""


@frozen
class Run:
    """A run, between the state row that it found and the one that it writes.

    `last` is None before the first run. Posts are to be read as they stand at `release.clock`.
    """

    last: Release | None
    release: Release


def advance(
    last: Release | None, now: datetime, zone: ZoneInfo, send_at: time, *, yes: bool = False
) -> Run:
    """Return the run that starts at the instant `now`; neither date of the state row falls.

    `send_at` is local to `zone`.
    Raises `StoppedError` if the clock is more than `PATIENCE` past the last run's, unless `yes`.
    """
    # Two times of one zone are compared by what its clocks showed, also where they were put back.
    now = now.astimezone(UTC)
    if last is None:
        reached = date_released(now, zone, send_at)
        return Run(last, Release(now, reached, zone.key, reached))
    if now - last.clock > PATIENCE and not yes:
        raise StoppedError([_too_late(last, now)])
    clock = max(now, last.clock)
    released = max(date_released(clock, zone, send_at), last.released)
    floor = max(released, last.floor)
    if zone.key != last.zone:
        floor = max(floor, local_date(clock, ZoneInfo(last.zone)))
    return Run(last, Release(clock, released, zone.key, floor))


def _too_late(last: Release, now: datetime) -> Problem:
    what = f"the clock shows {now:%Y-%m-%d}, the last run was on {last.clock:%Y-%m-%d}"
    return Problem("", what=what, repair="set the clock, or repeat with --yes if it is right")


def date_released(clock: datetime, zone: ZoneInfo, send_at: time) -> date:
    """Return the newest date whose `send_at` in `zone` has come at the instant `clock`.

    A `send_at` that a change of offset skips or repeats comes once, by the offset before it.
    """
    today = local_date(clock, zone)
    # Clocks put back over midnight have already shown tomorrow's date, and a zone that crossed
    # the date line has skipped one whole.
    nearby = (today + timedelta(days=days) for days in (1, 0, -1))
    return next(
        (day for day in nearby if instant(day, zone, send_at) <= clock), today - timedelta(days=2)
    )


def instant(day: date, zone: ZoneInfo, send_at: time) -> datetime:
    """Return the instant, in UTC, at which `send_at` comes on `day` in `zone`."""
    return datetime.combine(day, send_at, tzinfo=zone).astimezone(UTC)


def local_date(clock: datetime, zone: ZoneInfo) -> date:
    """Return what a calendar in `zone` shows at the instant `clock`."""
    return clock.astimezone(zone).date()


def arrival_day(day: date, run: Run) -> date:
    """Return the day of the arrival that `run` logs for a post of the date `day` (rules 2, 14).

    In the first run after a change of zone a post of the new calendar may be for subscribers who
    confirmed by the old one: it counts as of what that showed while the new one showed `day`.
    """
    if run.last is None:
        return day
    lowest = max(day, run.last.floor, run.last.released)
    if run.release.zone == run.last.zone:
        return lowest
    end = instant(day + timedelta(days=1), ZoneInfo(run.release.zone), time())
    return max(lowest, local_date(min(end, run.release.clock), ZoneInfo(run.last.zone)))


def boundary(frequency: Frequency, day: date) -> date:
    """Return the last boundary of `frequency` that is not after `day` (rule 3).

    A month's is its 1st, a week's its Monday (ISO 8601), a day's the day; `post` has a day's.
    """
    if frequency == "month":
        return day.replace(day=1)
    if frequency == "week":
        return day - timedelta(days=day.weekday())
    return day


def pending_since(frequencies: Iterable[Frequency], released: date) -> date:
    """Return the day from which arrivals may still be ahead of somebody's next letter.

    That is the last boundary of the longest of `frequencies`, or of a week that began before it.
    Pass what is offered and what subscribers have: an offer may have been withdrawn from under
    them.
    """
    return min((boundary(each, released) for each in frequencies), default=released)


def reach(frequency: Frequency, released: date, last_seq: int) -> Bookmark:
    """Return what a letter of `frequency` raises a bookmark to, once `released` has come (rule 4).

    The part that it leaves alone is the lowest there is, so raising to it changes nothing.
    """
    if frequency == "post":
        return Bookmark(date.min, last_seq)
    return Bookmark(boundary(frequency, released))
