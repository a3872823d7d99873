"""What posts say of themselves → what is missing, odd or too long in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta

from postroom.check.written import Written
from postroom.errors import Problem
from postroom.posts.draft import Draft

_LONGEST_TITLE = 70
_AHEAD = timedelta(days=183)
# RFC 4151 §2.1: a month or a day that is left out is the first.
_TAG = re.compile(r"tag:[^,:]+,([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?:", re.IGNORECASE)


def head_problems(written: Written) -> Iterator[Problem]:
    """Yield what is wrong with the heads of posts that go out."""
    began = _beginning(written.site.id)
    for one in written.going_out():
        yield from _said(one, written)
        yield from _dated(one, written, began)
    yield from _twins(written)


def _said(one: Draft, written: Written) -> Iterator[Problem]:
    if not one.head.summary:
        repair = "add summary: one or two sentences that make people read on"
        yield written.in_head(one, "summary", "is missing", repair, "post-summary")
    if len(one.title) > _LONGEST_TITLE:
        what = f"has {len(one.title)} characters"
        repair = f"say it in {_LONGEST_TITLE}, and the rest in the summary"
        yield written.in_head(one, "title", what, repair, "post-title")
    if one.head.image and not one.head.image.alt:
        what = f"'{one.head.image.src}' has no description"
        repair = f"write image: {{src: {one.head.image.src}, alt: What it shows}}"
        yield written.in_head(one, "image", what, repair, "post-alt")


def _dated(one: Draft, written: Written, began: date | None) -> Iterator[Problem]:
    latest = (written.at + _AHEAD).date()
    moments = [
        ("date", one.date),
        ("updated", one.head.updated),
        ("withdrawn", one.head.withdrawn),
        *(("publishDate", each) for each in one.head.publish_dates),
    ]
    for key, moment in moments:
        if moment and moment.day > latest:
            what = f"{moment.day} is more than half a year ahead"
            repair = "correct the year, or wait"
            yield written.in_head(one, key, what, repair, "post-date-ahead")
    if began and one.day < began:
        what = f"{one.day} lies before {began}, the date in the settings' id"
        repair = "correct the year, or give id in postroom.yaml an earlier date before you publish"
        yield written.in_head(one, "date", what, repair, "post-date-early")


def _beginning(identity: str) -> date | None:
    """Return the date of a tag URI; None for any other id, and a date that there is not."""
    found = _TAG.match(identity)
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return None


def _twins(written: Written) -> Iterator[Problem]:
    first: dict[datetime, Draft] = {}
    timed = [one for one in written.going_out() if one.date.time is not None]
    for one in sorted(timed, key=lambda one: (one.instant, one.id)):
        other = first.setdefault(one.instant, one)
        if other is not one:
            what = f"is the time of {written.name(other)} too"
            repair = "change the time of one by a minute"
            yield written.in_head(one, "date", what, repair, "post-date-twin")
