"""Compiled statements: the driver runs them with the same results as SQLAlchemy."""

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
    """Return a database with a log entry on each of five days."""
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


def test_values_convert_as_in_sqlalchemy(database: Database) -> None:
    """Dates, booleans, and instants of any time zone have the same meaning as in SQLAlchemy."""
    noon = datetime(2026, 11, 22, 13, 30, 0, 5, tzinfo=timezone(timedelta(hours=1, minutes=30)))
    with database.writing() as connection:
        TICK.run(connection, {"now": noon})
        assert POSTS.all(connection, {"gone": False}, [TODAY]) == [(1, TODAY, "p1")]
        (clock,) = CLOCK.all(connection, {})
        assert clock == connection.scalar(sa.select(run_state.c.clock)) == noon
        assert clock.tzinfo is UTC


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_list_can_have_any_length(database: Database, size: int) -> None:
    """A statement takes one value or several."""
    with database.writing() as connection:
        NAME_ALL.run(connection, {"name": "new"}, range(1, size + 1))
        found = POSTS.all(connection, {"gone": False}, DAYS)
        assert [name for _, _, name in found] == ["new"] * size + [
            f"p{n}" for n in range(size + 1, 6)
        ]
        assert len(POSTS.all(connection, {"gone": False}, DAYS[:size])) == size


def test_rows_share_common_values(database: Database) -> None:
    """Each row has its own values besides the common ones, and text is cleaned for storage."""
    many = [{"which": 1, "name": "a\0b"}, {"which": 3, "name": "c"}]
    with database.writing() as connection:
        NAME.run_many(connection, many, {"gone": True})
        assert [(n, name) for n, _, name in POSTS.all(connection, {"gone": True}, DAYS)] == [
            (1, "a\ufffdb"),
            (3, "c"),
        ]


def test_a_driver_error_is_one_line_and_rolls_back(database: Database) -> None:
    """An error of the driver rolls the transaction back, and its message repeats no value."""

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
