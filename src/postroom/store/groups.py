"""Groups: the active subscribers by what they are owed, for planning letters."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import deliveries, letter_posts, subscribers
from postroom.model import Arrival, Bookmark, Group, Members, Subscriber
from postroom.store.subscribers import from_row

DELIVERED = ("sent", "uncertain")


class Groups:
    """Active subscribers, grouped by frequency, bookmark, topics and language."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def every(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group that has members, and their number, in a fixed order."""
        columns = [subscribers.c[name] for name in "frequency before upto topics language".split()]
        asked = (
            sa.select(*columns, sa.func.count().label("number"))
            .where(subscribers.c.state == "active")
            .group_by(*columns)
            .order_by(*columns)
        )
        return self._database.stream(asked, _group)

    def count(self, members: Members) -> int:
        """Return how many members these are."""
        asked = sa.select(sa.func.count()).select_from(subscribers).where(belongs(members))
        with self._database.reading() as connection:
            return connection.scalar(asked) or 0

    def members(self, members: Members) -> Generator[Subscriber, None, None]:
        """Yield the members by id."""
        asked = sa.select(subscribers).where(belongs(members)).order_by(subscribers.c.id)
        return self._database.stream(asked, from_row)

    def raise_bookmarks(self, members: Members, to: Bookmark) -> int:
        """Raise the bookmarks of all the members in one statement; neither part falls.

        It is for those to whom nothing is owed: a letter moves its subscriber's bookmark itself.
        """
        held = members.group.bookmark
        statement = (
            sa.update(subscribers)
            .where(belongs(members))
            .values(before=max(held.before, to.before), upto=max(held.upto, to.upto))
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount


def _group(row: sa.Row[Any]) -> tuple[Group, int]:
    bookmark = Bookmark(row.before, row.upto)
    return Group(row.frequency, bookmark, row.topics, row.language), row.number


def belongs(members: Members) -> sa.ColumnElement[bool]:
    """Return the condition by which a row of subscribers is one of the members."""
    group = members.group
    return sa.and_(
        subscribers.c.state == "active",
        subscribers.c.frequency == group.frequency,
        subscribers.c.before == group.bookmark.before,
        subscribers.c.upto == group.bookmark.upto,
        subscribers.c.topics == group.topics,
        subscribers.c.language == group.language,
        *(_is_owed(arrival) for arrival in members.owed),
        *(~_is_owed(arrival) for arrival in members.settled),
    )


def _is_owed(arrival: Arrival) -> sa.ColumnElement[bool]:
    """Return the condition of delivery rule 7 for a post that had vanished and came back."""
    delivered = (
        sa.select(sa.literal(1))
        .select_from(deliveries.join(letter_posts, letter_posts.c.letter == deliveries.c.letter))
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            deliveries.c.state.in_(DELIVERED),
            letter_posts.c.post == arrival.post_id,
        )
        .correlate(subscribers)
    )
    return sa.and_(subscribers.c.start <= arrival.first_day, ~delivered.exists())
