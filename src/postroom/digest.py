"""Posts and the calendar → digests. Pure: no clock, no file, no database."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import groupby
from urllib.parse import urljoin

from postroom.model import Digest, Every, Post, Site


def period_of(day: date, every: Every) -> str:
    """Return the name of the period that holds `day`: 2026-11, 2026-W47 or 2026-11-22.

    Weeks are those of ISO 8601.
    """
    if every == "month":
        return f"{day:%Y-%m}"
    if every == "week":
        year, week, _ = day.isocalendar()
        return f"{year:04}-W{week:02}"
    return day.isoformat()


def bounds(day: date, every: Every) -> tuple[date, date]:
    """Return the first and the last day of the period that holds `day`."""
    if every == "month":
        last = calendar.monthrange(day.year, day.month)[1]
        return day.replace(day=1), day.replace(day=last)
    if every == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6)
    return day, day


def digests(posts: Iterable[Post], site: Site) -> tuple[Digest, ...]:
    """Return the digest of every period that has posts, the newest first."""
    every = site.digest.every
    newest_first = sorted(posts, key=lambda post: (post.day, post.published), reverse=True)
    return tuple(
        _digest(name, tuple(group), site)
        for name, group in groupby(newest_first, key=lambda post: period_of(post.day, every))
    )


def _digest(period: str, posts: tuple[Post, ...], site: Site) -> Digest:
    every = site.digest.every
    first, last = bounds(posts[0].day, every)
    return Digest(period, every, first, last, posts, urljoin(site.url, f"digest/{period}/"))
