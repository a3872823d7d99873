"""Types of column that mean the same on SQLite and on PostgreSQL, to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

# SQLite counts rows only in an INTEGER column; PostgreSQL's INTEGER ends at 2³¹.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Ordered by code point on both, whatever the server's locale is.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware instant, kept as UTC to the microsecond and returned as UTC.

    SQLite has no zones: there the text of the UTC time is kept, which sorts as the instants do.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return `value` as the database takes it; a time without a zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the database holds, as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Prose(sa.types.TypeDecorator[str]):
    """Text that others wrote, such as a server's reply: whatever it holds, it can be kept."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return `value` as the database takes it."""
        del dialect
        return None if value is None else _keepable(value)


def _keepable(text: str) -> str:
    """Return `text` without NUL, which PostgreSQL has not, and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class Words(sa.types.TypeDecorator[frozenset[str]]):
    """A set of words, kept as a sorted JSON list, so that equal sets are equal texts."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:
        """Return the text of the set."""
        del dialect
        if value is None:
            return None
        kept = sorted({_keepable(word) for word in value})
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> frozenset[str] | None:  # noqa: ANN401 - what the driver returns
        """Return the set that the text writes."""
        del dialect
        return None if value is None else frozenset(json.loads(value))
