"""Moments as authors write them → instants, no two of them equal."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta, timezone

from postroom.frontmatter import Moment
from postroom.model import Site


def start_of(moment: Moment, site: Site) -> datetime:
    """Return the instant at which `moment` has come: a day alone as it begins in the site's zone.

    Where clocks skip midnight, that is the instant at which they do.
    """
    written = moment.time or datetime.combine(moment.day, time())
    return (written if written.tzinfo else written.replace(tzinfo=site.timezone)).astimezone(UTC)


def instant_of(moment: Moment, identity: str, site: Site) -> datetime:
    """Return the instant that stands for `moment`.

    A day alone is spread over its first hour: feed readers drop entries whose times are equal.
    """
    if moment.time is None:
        digest = hashlib.sha256(identity.encode()).digest()
        second = timedelta(seconds=int.from_bytes(digest[:4], "big") % 3600)
        return start_of(moment, site) + second
    return start_of(moment, site)


def take(instant: datetime, taken: dict[datetime, datetime]) -> datetime:
    """Return `instant`, or the first second after it that is not among `taken`, and take it.

    `taken` leads from each taken instant to a later one, so that no row of them is walked twice.
    """
    passed = []
    while instant in taken:
        passed.append(instant)
        instant = taken[instant]
    taken.update(dict.fromkeys((*passed, instant), instant + timedelta(seconds=1)))
    return instant


def at_home(instant: datetime, site: Site) -> datetime:
    """Return `instant` as the newsroom's clock shows it, with that moment's offset.

    The offset is fixed: two times of one zone are compared by their clocks alone, and in autumn
    one hour stands on them twice. It has no seconds: RFC 3339 cannot write those of long ago.
    """
    offset = instant.astimezone(site.timezone).utcoffset() or timedelta()
    return instant.astimezone(timezone(offset - offset % timedelta(minutes=1)))


def day_of(moment: Moment, instant: datetime, site: Site) -> date:
    """Return the calendar date of `moment` in the newsroom's zone."""
    return moment.day if moment.time is None else instant.astimezone(site.timezone).date()
