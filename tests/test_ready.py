"""Statements that stand ready: run by the driver, they are what they are through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam

from postroom.database.engine import Database
from postroom.database.ready import Change, Question, among
from postroom.database.schema import arrivals, release
from postroom.database.versions import open_database
from postroom.errors import DatabaseError

TODAY = date(2026, 11, 22)
DAYS = [TODAY + timedelta(days=number) for number in range(5)]
POSTS = Question(
    lambda size: (
        sa.select(arrivals.c.seq, arrivals.c.day, arrivals.c.post)
        .where(among(arrivals.c.day, size), arrivals.c.struck == bindparam("gone"))
        .order_by(arrivals.c.seq)
    ),
    lambda *row: row,
)
CLOCK = Question(lambda _: sa.select(release.c.clock), lambda clock: clock)
NAME = Change(
    lambda _: (
        sa.update(arrivals)
        .where(arrivals.c.seq == bindparam("which"))
        .values(post=bindparam("name"), struck=bindparam("gone"))
    )
)
NAME_ALL = Change(
    lambda size: (
        sa.update(arrivals).where(among(arrivals.c.seq, size)).values(post=bindparam("name"))
    )
)
TICK = Change(lambda _: sa.update(release).values(clock=bindparam("now")))


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """Return a database with an arrival on each of five days."""
    opened = open_database(database_url, tmp_path)
    with closing(opened):
        rows = [
            {"seq": n, "day": day, "post": f"p{n}", "first_day": day, "struck": False}
            for n, day in enumerate(DAYS, 1)
        ]
        with opened.writing() as connection:
            connection.execute(arrivals.insert().values(returned=False), rows)
            now = datetime(2026, 11, 22, tzinfo=UTC)
            state = {"id": 1, "clock": now, "released": TODAY, "zone": "UTC", "floor": TODAY}
            connection.execute(release.insert(), [state])
        yield opened


def test_values_come_and_go_as_through_sqlalchemy(database: Database) -> None:
    """Dates, truth, and instants of any zone mean what they mean there."""
    noon = datetime(2026, 11, 22, 13, 30, 0, 5, tzinfo=timezone(timedelta(hours=1, minutes=30)))
    with database.writing() as connection:
        TICK.make(connection, {"now": noon})
        assert POSTS.ask(connection, {"gone": False}, [TODAY]) == [(1, TODAY, "p1")]
        (clock,) = CLOCK.ask(connection, {})
        assert clock == connection.scalar(sa.select(release.c.clock)) == noon
        assert clock.tzinfo is UTC


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_list_may_have_any_length(database: Database, size: int) -> None:
    """The same statement takes one value or several."""
    with database.writing() as connection:
        NAME_ALL.make(connection, {"name": "new"}, range(1, size + 1))
        found = POSTS.ask(connection, {"gone": False}, DAYS)
        assert [name for _, _, name in found] == ["new"] * size + [
            f"p{n}" for n in range(size + 1, 6)
        ]
        assert len(POSTS.ask(connection, {"gone": False}, DAYS[:size])) == size


def test_what_is_common_to_many_is_said_once(database: Database) -> None:
    """Each row of many has its own values beside the common ones; text is made fit to be kept."""
    many = [{"which": 1, "name": "a\0b"}, {"which": 3, "name": "c"}]
    with database.writing() as connection:
        NAME.make_each(connection, many, {"gone": True})
        assert [(n, name) for n, _, name in POSTS.ask(connection, {"gone": True}, DAYS)] == [
            (1, "a\ufffdb"),
            (3, "c"),
        ]


def test_what_the_driver_raises_is_one_line_and_undone(database: Database) -> None:
    """A fault ends the transaction as it would through SQLAlchemy, and repeats no value."""

    def spoil() -> None:
        with database.writing() as connection:
            NAME_ALL.make(connection, {"name": "secret"}, [1])
            NAME.make(connection, {"which": 2, "name": None, "gone": False})

    with pytest.raises(DatabaseError) as caught:
        spoil()
    assert "secret" not in str(caught.value)
    with database.reading() as connection:
        names = [name for _, _, name in POSTS.ask(connection, {"gone": False}, DAYS)]
    assert names == [f"p{n}" for n in range(1, 6)]
