"""Group posts by calendar period, for the digest pages of a site and for newsletter issues.

All functions are pure.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import groupby
from urllib.parse import urljoin

from postroom.models import Cursor, Digest, DigestFrequency, Issue, Post, Site


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
    newest_first = sorted(posts, key=lambda post: (post.day, post.published, post.id), reverse=True)
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


def issues_by_period(posts: Iterable[Post], site: Site) -> tuple[Issue, ...]:
    """Return the issue of each period that has posts to send, newest first.

    It is the issue for subscribers of all languages and topics whose frequency is the site's
    `digest.every`, if every post was published on its date. Withdrawn posts are in no issue.
    """
    visible = [post for post in posts if post.withdrawn is None]
    return tuple(
        # The cutoff of an issue is the day after its period (delivery rules, rule 3).
        Issue(
            digest.every,
            Cursor(digest.last + timedelta(days=1)),
            tuple(post.id for post in digest.posts),
            "",
        )
        for digest in group_by_period(visible, site)
    )


def digest_of_issue(issue: Issue, posts: Mapping[str, Post], site: Site) -> Digest:
    """Return the posts of `issue` as a digest, for the email's title and link.

    `posts` are all published posts by id. A daily, weekly or monthly issue has the period before
    its cutoff; an issue of frequency `post` and a welcome issue have the days of their posts. The
    URL is that of a page with all posts of the issue, or of the front page if there is none and for
    a welcome issue.
    """
    shown = tuple(posts[post] for post in issue.posts if post in posts)
    if issue.frequency in ("day", "week", "month"):
        every, before = issue.frequency, issue.cutoff.date - timedelta(days=1)
        (first, last), period = period_bounds(before, every), period_containing(before, every)
    else:
        days = [post.day for post in shown]
        every, first, last = "day", min(days), max(days)
        period = f"{first}" if first == last else f"{first}/{last}"  # ISO 8601: an interval
    is_alone = len(shown) == 1 and issue.frequency == "post"
    url = shown[0].url if is_alone else _common_page(issue, shown, site)
    return Digest(period, every, first, last, shown, url)


def _common_page(issue: Issue, shown: Iterable[Post], site: Site) -> str:
    """Return the URL of the smallest page with all posts that are `shown`.

    It depends on nothing but the issue, so the email stays the same while other posts are added.
    Posts of two years have no page in common; they are new, so the front page shows them.
    """
    periods = {period_containing(post.day, site.digest.every) for post in shown}
    years = {post.day.year for post in shown}
    if issue.frequency == "welcome":
        return site.url
    if len(periods) == 1:
        return urljoin(site.url, f"digest/{periods.pop()}/")
    if len(years) == 1 and site.pages.enabled:
        return urljoin(site.url, f"archive/{years.pop()}/")
    return site.url
