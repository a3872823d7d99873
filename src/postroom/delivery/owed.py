"""Log + bookmark → what a subscriber is owed (delivery rules, rules 3 to 7 and 13)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.delivery.arrivals import News
from postroom.delivery.clock import local_date, reach
from postroom.errors import Problem, UseError
from postroom.frontmatter import topic_slug
from postroom.model import Arrival, Bookmark, Frequency, Group, Letter, Release, Subscriber


@frozen
class Owed:
    """The arrivals that a group is owed, newest post first, and what receiving them raises to.

    Nothing owed, no letter; the bookmark is raised all the same (rule 6).
    """

    group: Group
    reach: Bookmark
    arrivals: tuple[Arrival, ...]

    @property
    def bookmark(self) -> Bookmark:
        """The group's bookmark once this is delivered, or found to be nothing."""
        return raised(self.group.bookmark, self.reach)

    @property
    def returned(self) -> tuple[Arrival, ...]:
        """The arrivals that may split the group: some subscribers have had their posts."""
        return tuple(one for one in self.arrivals if one.returned)

    @property
    def letter(self) -> Letter | None:
        """The letter that holds all of it, or None."""
        posts = tuple(one.post_id for one in self.arrivals)
        if not posts:
            return None
        return Letter(self.group.frequency, self.reach, posts, self.group.language)

    def without(self, posts: Collection[str]) -> Owed:
        """Return what is owed to those of the group who are not owed `posts`, by id."""
        kept = tuple(one for one in self.arrivals if one.post_id not in posts)
        return evolve(self, arrivals=kept)


def owed(
    group: Group, raising_to: Bookmark, log: Iterable[Arrival], news: Mapping[str, News]
) -> Owed:
    """Return what `group` is owed by a run whose `reach` for its frequency is `raising_to`.

    Of the `log` only what is not behind the group's bookmark is needed. A post counts if it is
    visible and matches now; which subscribers have had a returned one, `has_had` tells.
    """
    due = (one for one in log if _due(one, group, raising_to))
    return Owed(group, raising_to, tuple(_matching(group, due, news)))


def _matching(group: Group, arrivals: Iterable[Arrival], news: Mapping[str, News]) -> list[Arrival]:
    """Return those that match, in the order of the posts: that of the log tells when runs were."""

    def order(arrival: Arrival) -> tuple[date, datetime, str]:
        post = news[arrival.post_id]
        return post.day, post.published, post.id

    matching = (one for one in arrivals if _matches(group, one, news))
    return sorted(matching, key=order, reverse=True)


def _due(arrival: Arrival, group: Group, raising_to: Bookmark) -> bool:
    if arrival.struck or behind(arrival, group.bookmark):
        return False
    return group.frequency == "post" or arrival.day < raising_to.before


def _matches(group: Group, arrival: Arrival, news: Mapping[str, News]) -> bool:
    post = news.get(arrival.post_id)
    if post is None or not _covers(group.language, post.language):
        return False
    return not group.topics or not _slugs(group.topics).isdisjoint(_slugs(post.topics))


def _covers(chosen: str, language: str) -> bool:
    """Tell whether a post in `language` is for who chose `chosen` (RFC 4647 §3.3.1).

    `en` covers `en-US`, nothing covers everything, and case does not count.
    """
    wanted, spoken = chosen.casefold(), language.casefold()
    return not wanted or spoken == wanted or spoken.startswith(f"{wanted}-")


@lru_cache(maxsize=10_000)
def _slugs(topics: frozenset[str]) -> frozenset[str]:
    return frozenset(map(topic_slug, topics))


def behind(arrival: Arrival, bookmark: Bookmark) -> bool:
    """Tell whether `arrival` was delivered, or is not owed, to a holder of `bookmark`."""
    return arrival.day < bookmark.before or arrival.seq <= bookmark.upto


def has_had(arrival: Arrival, start: date, delivered: Collection[str]) -> bool:
    """Tell whether a returned `arrival` is nothing new to one subscriber (rule 7).

    `start` is the subscriber's, `delivered` the ids of posts in letters closed for that
    subscriber, or of those among them that returned.
    """
    return arrival.returned and (start > arrival.first_day or arrival.post_id in delivered)


def raised(bookmark: Bookmark, to: Bookmark) -> Bookmark:
    """Return `bookmark` raised to `to`: each part the later of both, so neither ever falls."""
    return Bookmark(max(bookmark.before, to.before), max(bookmark.upto, to.upto))


def confirmation(frequency: Frequency, release: Release, last_seq: int) -> Bookmark:
    """Return where a confirmation at the clock of `release` starts (rule 5).

    `release` is the row that a run would write at this instant, `advance(…, yes=True).release`;
    it is not stored. Imported subscribers start here too, unless a day is given for them.
    """
    if frequency == "post":
        return Bookmark(_today(release), last_seq)
    return reach(frequency, release.released, last_seq)


def start_from(day: date, release: Release) -> Bookmark:
    """Return where imported subscribers start who are owed what came on `day` or later (rule 5).

    Raises `UseError` if that day has not come: all until then would be lost.
    """
    if day <= _today(release):
        return Bookmark(day)
    raise UseError([Problem("", what=f"{day} has not come", repair="write today or a day before")])


def _today(release: Release) -> date:
    return local_date(release.clock, ZoneInfo(release.zone))


def started(subscriber: Subscriber, at: Bookmark) -> Subscriber:
    """Return `subscriber`, new, imported or back again, as active and owed what is ahead of `at`.

    What lay behind the bookmark stays there (rules 4 and 12).
    """
    bookmark = raised(subscriber.bookmark, at)
    start = max(subscriber.start, at.before)
    return evolve(subscriber, state="active", bookmark=bookmark, start=start)


def welcome(
    group: Group, log: Iterable[Arrival], news: Mapping[str, News], most: int = 5
) -> Letter | None:
    """Return the letter for a first confirmation, with the newest `most` posts before it, or None.

    `group` has the bookmark that the confirmation raised. Arrivals that are behind by seq alone
    stay out: their day is the start's, so they would not count as had if they vanished and
    returned (rule 13).
    """
    old = (one for one in log if not one.struck and one.day < group.bookmark.before)
    newest = _matching(group, old, news)[:most]
    if not newest:
        return None
    posts = tuple(one.post_id for one in newest)
    return Letter("welcome", Bookmark(date.min), posts, group.language)


@lru_cache(maxsize=64)
def letter_id(letter: Letter) -> str:
    """Return the identity of `letter`, under which it is frozen once (rule 9); hexadecimal."""
    before, upto = letter.reach.before.isoformat(), letter.reach.upto
    return _digest([letter.frequency, before, upto, letter.language, *letter.posts])


def message_key(subscriber: int, letter: Letter) -> str:
    """Return what makes a Message-ID, the same however often a letter is tried; hexadecimal."""
    return _digest([subscriber, letter_id(letter)])


def _digest(parts: Sequence[str | int]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
