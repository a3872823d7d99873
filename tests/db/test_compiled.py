"""Statements that stand ready: run by the driver, they are what they are through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam

from postroom.db.compiled import CompiledSelect, CompiledUpdate, among
from postroom.db.engine import Database
from postroom.db.migrate import open_database
from postroom.db.schema import post_log, run_state
from postroom.errors import DatabaseError

TODAY = date(2026, 11, 22)
DAYS = [TODAY + timedelta(days=number) for number in range(5)]
POSTS = CompiledSelect(
    lambda size: (
        sa.select(post_log.c.seq, post_log.c.day, post_log.c.post)
        .where(among(post_log.c.day, size), post_log.c.retracted == bindparam("gone"))
        .order_by(post_log.c.seq)
    ),
    lambda *row: row,
)
CLOCK = CompiledSelect(lambda _: sa.select(run_state.c.clock), lambda clock: clock)
NAME = CompiledUpdate(
    lambda _: (
        sa.update(post_log)
        .where(post_log.c.seq == bindparam("which"))
        .values(post=bindparam("name"), retracted=bindparam("gone"))
    )
)
NAME_ALL = CompiledUpdate(
    lambda size: (
        sa.update(post_log).where(among(post_log.c.seq, size)).values(post=bindparam("name"))
    )
)
TICK = CompiledUpdate(lambda _: sa.update(run_state).values(clock=bindparam("now")))


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """Return a database with an arrival on each of five days."""
    opened = open_database(database_url, tmp_path)
    with closing(opened):
        rows = [
            {"seq": n, "day": day, "post": f"p{n}", "first_day": day, "retracted": False}
            for n, day in enumerate(DAYS, 1)
        ]
        with opened.writing() as connection:
            connection.execute(post_log.insert().values(returned=False), rows)
            now = datetime(2026, 11, 22, tzinfo=UTC)
            state = {"id": 1, "clock": now, "released": TODAY, "zone": "UTC", "floor": TODAY}
            connection.execute(run_state.insert(), [state])
        yield opened


def test_values_come_and_go_as_through_sqlalchemy(database: Database) -> None:
    """Dates, truth, and instants of any zone mean what they mean there."""
    noon = datetime(2026, 11, 22, 13, 30, 0, 5, tzinfo=timezone(timedelta(hours=1, minutes=30)))
    with database.writing() as connection:
        TICK.run(connection, {"now": noon})
        assert POSTS.all(connection, {"gone": False}, [TODAY]) == [(1, TODAY, "p1")]
        (clock,) = CLOCK.all(connection, {})
        assert clock == connection.scalar(sa.select(run_state.c.clock)) == noon
        assert clock.tzinfo is UTC


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_list_may_have_any_length(database: Database, size: int) -> None:
    """The same statement takes one value or several."""
    with database.writing() as connection:
        NAME_ALL.run(connection, {"name": "new"}, range(1, size + 1))
        found = POSTS.all(connection, {"gone": False}, DAYS)
        assert [name for _, _, name in found] == ["new"] * size + [
            f"p{n}" for n in range(size + 1, 6)
        ]
        assert len(POSTS.all(connection, {"gone": False}, DAYS[:size])) == size


def test_what_is_common_to_many_is_said_once(database: Database) -> None:
    """Each row of many has its own values beside the common ones; text is made fit to be kept."""
    many = [{"which": 1, "name": "a\0b"}, {"which": 3, "name": "c"}]
    with database.writing() as connection:
        NAME.run_many(connection, many, {"gone": True})
        assert [(n, name) for n, _, name in POSTS.all(connection, {"gone": True}, DAYS)] == [
            (1, "a\ufffdb"),
            (3, "c"),
        ]


def test_what_the_driver_raises_is_one_line_and_undone(database: Database) -> None:
    """A fault ends the transaction as it would through SQLAlchemy, and repeats no value."""

    def spoil() -> None:
        with database.writing() as connection:
            NAME_ALL.run(connection, {"name": "secret"}, [1])
            NAME.run(connection, {"which": 2, "name": None, "gone": False})

    with pytest.raises(DatabaseError) as caught:
        spoil()
    assert "secret" not in str(caught.value)
    with database.reading() as connection:
        names = [name for _, _, name in POSTS.all(connection, {"gone": False}, DAYS)]
    assert names == [f"p{n}" for n in range(1, 6)]
