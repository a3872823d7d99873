"""Posts and the calendar → digests. Pure: no clock, no file, no database."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import groupby
from urllib.parse import urljoin

from postroom.models import Digest, DigestFrequency, Issue, Post, Site


def period_containing(day: date, every: DigestFrequency) -> str:
    """Return the name of the period that holds `day`: 2026-11, 2026-W47 or 2026-11-22.

    Weeks are those of ISO 8601.
    """
    if every == "month":
        return f"{day:%Y-%m}"
    if every == "week":
        year, week, _ = day.isocalendar()
        return f"{year:04}-W{week:02}"
    return day.isoformat()


def period_bounds(day: date, every: DigestFrequency) -> tuple[date, date]:
    """Return the first and the last day of the period that holds `day`."""
    if every == "month":
        last = calendar.monthrange(day.year, day.month)[1]
        return day.replace(day=1), day.replace(day=last)
    if every == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6)
    return day, day


def group_by_period(posts: Iterable[Post], site: Site) -> tuple[Digest, ...]:
    """Return the digest of every period that has posts, the newest first."""
    every = site.digest.every
    newest_first = sorted(posts, key=lambda post: (post.day, post.published), reverse=True)
    return tuple(
        _digest(name, tuple(group), site)
        for name, group in groupby(
            newest_first, key=lambda post: period_containing(post.day, every)
        )
    )


def _digest(period: str, posts: tuple[Post, ...], site: Site) -> Digest:
    every = site.digest.every
    first, last = period_bounds(posts[0].day, every)
    return Digest(period, every, first, last, posts, urljoin(site.url, f"digest/{period}/"))


def digest_of_issue(letter: Issue, posts: Mapping[str, Post], site: Site) -> Digest:
    """Return what `letter` shows: its posts, by id among `posts`, under the name of its period.

    A letter of frequency `post`, or of welcome, stands under the day of its newest post. The page
    to read on the web is that of the digest where there is one, of a lone post, else the front
    page.
    """
    held = tuple(posts[each] for each in letter.posts if each in posts)
    if letter.frequency in ("day", "week", "month"):
        day, every = letter.cutoff.date - timedelta(days=1), letter.frequency
    else:
        day, every = held[0].day, "day"
    first, last = period_bounds(day, every)
    period = period_containing(day, every)
    url = urljoin(site.url, f"digest/{period}/") if every == site.digest.every else site.url
    if letter.frequency == "welcome":
        url = site.url
    if len(held) == 1 and letter.frequency == "post":
        url = held[0].url
    return Digest(period, every, first, last, held, url)
