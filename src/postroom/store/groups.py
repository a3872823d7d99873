"""Groups: the active subscribers by what they are owed, for planning letters.

Where a bookmark `to` is asked for, it is what the members have once a letter is delivered to them,
or nothing is found for them. Left out are those whose open letter is on its way, or bounced with
nothing newer in `to`: for them nothing is planned, and their bookmarks do not move.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import deliveries, letter_posts, subscribers
from postroom.model import Arrival, Bookmark, Frequency, Group, Members, Subscriber
from postroom.store.subscribers import RECEIVING, from_row


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

    def uses(self, frequency: Frequency) -> bool:
        """Tell whether anybody who receives, or may again without confirming, chose `frequency`."""
        chose = (subscribers.c.frequency == frequency) & subscribers.c.state.in_(RECEIVING)
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.exists().where(chose))) or False

    def divided(
        self, group: Group, returned: Sequence[Arrival], to: Bookmark
    ) -> tuple[tuple[Members, int], ...]:
        """Divide the members whom `to` reaches by which of the `returned` posts they are owed.

        Return each division and its number, which is never 0, in a fixed order.
        """
        asked = [sa.case((_is_owed(one), 1), else_=0).label(f"owed_{one.seq}") for one in returned]
        each = sa.select(subscribers.c.id, *asked).where(reached(Members(group), to)).subquery()
        flags = [column for column in each.c if column.name != "id"]
        counted = sa.select(*flags, sa.func.count()).select_from(each).group_by(*flags)
        with self._database.reading() as connection:
            found = connection.execute(counted.order_by(*(flag.desc() for flag in flags)))
            rows = [tuple(row) for row in found]
        return tuple((_division(group, returned, owed), number) for *owed, number in rows if number)

    def members(self, members: Members) -> Generator[Subscriber, None, None]:
        """Yield the members by id."""
        asked = sa.select(subscribers).where(belongs(members)).order_by(subscribers.c.id)
        return self._database.stream(asked, from_row)

    def readers(self, members: Members, to: Bookmark) -> Generator[str, None, None]:
        """Yield the tokens of the members whom `to` reaches."""
        asked = sa.select(subscribers.c.token).where(reached(members, to))
        return self._database.stream(asked, lambda row: str(row.token))

    def raise_bookmarks(self, members: Members, to: Bookmark) -> int:
        """Raise the bookmarks of all the members in one statement; neither part falls.

        It is for those to whom nothing is owed: a letter moves its subscriber's bookmark itself.
        """
        held = members.group.bookmark
        raised = Bookmark(max(held.before, to.before), max(held.upto, to.upto))
        if raised == held:
            return 0
        statement = sa.update(subscribers).where(reached(members, raised))
        statement = statement.values(before=raised.before, upto=raised.upto)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount


def _division(group: Group, returned: Sequence[Arrival], flags: Sequence[int]) -> Members:
    owed = tuple(one for one, flag in zip(returned, flags, strict=True) if flag)
    return Members(group, owed, tuple(one for one in returned if one not in owed))


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


def reached(members: Members, to: Bookmark) -> sa.ColumnElement[bool]:
    """Return the condition by which a row of subscribers is a member that `to` reaches."""
    newer = (deliveries.c.before < to.before) | (deliveries.c.upto < to.upto)
    left_alone = (
        sa.select(sa.literal(1))
        .select_from(deliveries)
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            deliveries.c.n == subscribers.c.letters,
            (deliveries.c.state == "sending") | ((deliveries.c.state == "bounced") & ~newer),
        )
        .correlate(subscribers)
    )
    return sa.and_(belongs(members), ~left_alone.exists())


def _is_owed(arrival: Arrival) -> sa.ColumnElement[bool]:
    """Return the condition of delivery rule 7 for a post that had vanished and came back."""
    delivered = (
        sa.select(sa.literal(1))
        .select_from(deliveries.join(letter_posts, letter_posts.c.letter == deliveries.c.letter))
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            # One that is closed, also while it is sent again.
            deliveries.c.n < subscribers.c.letters,
            letter_posts.c.post == arrival.post_id,
        )
        .correlate(subscribers)
    )
    return sa.and_(subscribers.c.start <= arrival.first_day, ~delivered.exists())
