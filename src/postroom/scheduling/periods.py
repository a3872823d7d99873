"""Group posts by calendar period, for the digest pages of a site and for newsletter issues.

All functions are pure.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import groupby
from urllib.parse import urljoin

from postroom.models import Digest, DigestFrequency, Issue, Post, Site


def period_containing(day: date, every: DigestFrequency) -> str:
    """Return the name of the period that contains `day`: 2026-11, 2026-W47 or 2026-11-22.

    Weeks are those of ISO 8601.
    """
    if every == "month":
        return f"{day:%Y-%m}"
    if every == "week":
        year, week, _ = day.isocalendar()
        return f"{year:04}-W{week:02}"
    return day.isoformat()


def period_bounds(day: date, every: DigestFrequency) -> tuple[date, date]:
    """Return the first and the last day of the period that contains `day`."""
    if every == "month":
        last = calendar.monthrange(day.year, day.month)[1]
        return day.replace(day=1), day.replace(day=last)
    if every == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6)
    return day, day


def group_by_period(posts: Iterable[Post], site: Site) -> tuple[Digest, ...]:
    """Return a digest for each period that has posts, newest first.

    The length of a period is the site's `digest.every`.
    """
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


def digest_of_issue(issue: Issue, posts: Mapping[str, Post], site: Site) -> Digest:
    """Return the posts of `issue` as a digest, for the email's title and link.

    `posts` are the visible posts by id. A daily, weekly or monthly issue has the period before its
    cutoff; an issue of frequency `post` and a welcome issue have the day of their newest post. The
    URL is that of the digest page of this period if the site has one, else that of the front page.
    An issue of frequency `post` with one post has the URL of that post, a welcome issue always that
    of the front page.
    """
    shown = tuple(posts[post] for post in issue.posts if post in posts)
    if issue.frequency in ("day", "week", "month"):
        day, every = issue.cutoff.date - timedelta(days=1), issue.frequency
    else:
        day, every = shown[0].day, "day"
    first, last = period_bounds(day, every)
    period = period_containing(day, every)
    url = urljoin(site.url, f"digest/{period}/") if every == site.digest.every else site.url
    if issue.frequency == "welcome":
        url = site.url
    if len(shown) == 1 and issue.frequency == "post":
        url = shown[0].url
    return Digest(period, every, first, last, shown, url)
