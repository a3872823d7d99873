"""The few statements that SQLAlchemy spells differently for SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")
Insert: TypeAlias = sqlite.Insert | postgresql.Insert


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """Return an INSERT that knows ON CONFLICT; both databases write it alike."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def greater(column: sa.ColumnElement[T], value: Any) -> sa.ColumnElement[T]:  # noqa: ANN401 - value or expression
    """Return the greater of the two: `max` on one database is `greatest` on the other."""
    return sa.case((column < value, value), else_=column)
