"""The tables of the database, and column types that behave alike on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from postroom.db.faults import DamagedValueError
from postroom.models import DeliveryState, Frequency, IssueKind, Reason, State

# SQLite assigns ids only in an INTEGER column; PostgreSQL's INTEGER ends at 2³¹.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Sorted by code point on both databases, whatever the server's locale is.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class _CheckedType(sa.types.TypeDecorator[Any]):
    """A column type that reports a stored value that it cannot read as damage of the database.

    The database has checks for columns with a few possible values, and a damaged file may hold
    anything.
    """

    __abstract__ = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Return a function that converts a stored value, or raises `DamagedValueError`."""
        convert = super().result_processor(dialect, coltype)
        if convert is None:
            return None

        def checked(value: Any) -> Any:  # noqa: ANN401 - any column's
            try:
                return convert(value)
            except (TypeError, ValueError, OverflowError):
                raise DamagedValueError from None

        return checked


class Date(_CheckedType):
    """A column type for dates."""

    impl = sa.Date
    cache_ok = True


class Choice(_CheckedType):
    """A column type for one of a few `values`; `_values_check` makes the database check them."""

    impl = Text
    cache_ok = True

    def __init__(self, values: frozenset[str]) -> None:
        super().__init__()
        self.values = values

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the stored value; raises `ValueError` if it is none of the values."""
        del dialect
        if value is not None and value not in self.values:
            raise ValueError("is not a known value")
        return value


class UtcDateTime(_CheckedType):
    """A column type for instants, in UTC with microseconds.

    SQLite has no time zones. There the UTC time is stored as text, which sorts in the order of
    time.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return `value` converted to UTC; SQLite has no time zones, so there it has no tzinfo.

        Raises `ValueError` for a time without a zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class PrintableText(sa.types.TypeDecorator[str]):
    """A column type for text from outside, such as a server's reply.

    Characters that a database cannot store are replaced.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return `value` with replacements for characters that cannot be stored."""
        del dialect
        return None if value is None else _storable(value)


def _storable(text: str) -> str:
    """Replace NUL, which PostgreSQL refuses, and lone surrogates, which are not valid UTF-8."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class StringList(_CheckedType):
    """A column type for a set of strings.

    It is stored as a sorted JSON list, so that equal sets are stored as equal texts.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:
        """Return the set as JSON."""
        del dialect
        if value is None:
            return None
        words = sorted({_storable(word) for word in value})
        return json.dumps(words, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> frozenset[str] | None:  # noqa: ANN401 - what the driver returns
        """Return the set that the stored JSON text describes."""
        del dialect
        return None if value is None else frozenset(json.loads(value))


VERSIONS = ("0001",)
"""All versions of the database schema, oldest first; this program needs the last one."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _choice(literal: object) -> Choice:
    return Choice(frozenset(get_args(literal)))


def _values_check(column: str, literal: object) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in get_args(literal))
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _one_row() -> tuple[sa.Column[int], sa.CheckConstraint]:
    key = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    return key, sa.CheckConstraint("id = 1", name="one_row")


# Not alembic's own name, so that a PostgreSQL database can be shared with other programs.
version = sa.Table(
    "postroom_version", metadata, sa.Column("version_num", sa.String(32), primary_key=True)
)

# Ids are never used again, also after `forget`, because Message-IDs are made from them.
subscribers = sa.Table(
    "subscribers",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("key", Text, nullable=False, unique=True),
    sa.Column("address", Text, nullable=False),
    sa.Column("state", _choice(State), nullable=False),
    sa.Column("frequency", _choice(Frequency), nullable=False),
    sa.Column("topics", StringList, nullable=False),
    sa.Column("language", Text, nullable=False),
    sa.Column("cursor_date", Date, nullable=False),
    sa.Column("cursor_seq", sa.BigInteger, nullable=False),
    sa.Column("start", Date, nullable=False),
    sa.Column("issues", sa.BigInteger, nullable=False),
    # Not hashed, because each email contains it; it opens only the subscriber's own pages.
    sa.Column("token", Text, nullable=False, unique=True),
    _values_check("state", State),
    _values_check("frequency", Frequency),
    sqlite_autoincrement=True,
)
# The order of planning: active subscribers by group, then by id.
sa.Index(
    "subscribers_groups",
    *(
        subscribers.c[name]
        for name in "state frequency cursor_date cursor_seq topics language id".split()
    ),
)

suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("reason", _choice(Reason), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    _values_check("reason", Reason),
)

# The site, the machine and the path that may send.
ledger_claim = sa.Table(
    "ledger_claim",
    metadata,
    *_one_row(),
    sa.Column("site", PrintableText, nullable=False),
    sa.Column("machine", sa.String(64), nullable=False),
    sa.Column("host", PrintableText, nullable=False),
    sa.Column("path", PrintableText, nullable=False),
)

# Recognises the key of the hashes above without storing it.
suppression_key = sa.Table(
    "suppression_key",
    metadata,
    *_one_row(),
    sa.Column("proof", sa.String(64), nullable=False),
)

post_log = sa.Table(
    "post_log",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("day", Date, nullable=False),
    sa.Column("post", PrintableText, nullable=False, index=True),
    sa.Column("first_day", Date, nullable=False),
    sa.Column("retracted", sa.Boolean, nullable=False),
    sa.Column("returned", sa.Boolean, nullable=False),
)

run_state = sa.Table(
    "run_state",
    metadata,
    *_one_row(),
    sa.Column("clock", UtcDateTime, nullable=False),
    sa.Column("released", Date, nullable=False),
    sa.Column("zone", Text, nullable=False),
    sa.Column("floor", Date, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("started", UtcDateTime, nullable=False),
    sa.Column("ended", UtcDateTime),
    sqlite_autoincrement=True,
)

lease = sa.Table(
    "lease",
    metadata,
    *_one_row(),
    sa.Column("run", Id, sa.ForeignKey("runs.id"), nullable=False),
)

issues = sa.Table(
    "issues",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # SHA-256 of frequency, cutoff, language and posts: each is frozen once.
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("frequency", _choice(IssueKind), nullable=False),
    sa.Column("cutoff", Date, nullable=False),
    sa.Column("language", Text, nullable=False),
    sa.Column("date", UtcDateTime, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    _values_check("frequency", IssueKind),
    sqlite_autoincrement=True,
)

issue_posts = sa.Table(
    "issue_posts",
    metadata,
    sa.Column("issue", Id, sa.ForeignKey("issues.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("post", PrintableText, nullable=False),
)
sa.Index("issue_posts_post_issue", issue_posts.c.post, issue_posts.c.issue)

# `cursor_date` and `cursor_seq` are the subscriber's cursor once this issue is delivered.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column(
        "subscriber", Id, sa.ForeignKey("subscribers.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("issue", Id, sa.ForeignKey("issues.id"), nullable=False),
    sa.Column("state", _choice(DeliveryState), nullable=False),
    sa.Column("cursor_date", Date, nullable=False),
    sa.Column("cursor_seq", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("retry_at", UtcDateTime),
    sa.Column("run", Id, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("changed", UtcDateTime, nullable=False),
    sa.Column("reply", PrintableText, nullable=False),
    # When the server refused the email for good, but not because there is no such mailbox.
    sa.Column("refused", UtcDateTime),
    # When a person decided to leave an uncertain delivery as it is.
    sa.Column("acknowledged", UtcDateTime),
    sa.UniqueConstraint("subscriber", "number"),
    _values_check("state", DeliveryState),
    sqlite_autoincrement=True,
)
sa.Index("deliveries_state_id", deliveries.c.state, deliveries.c.id)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("detail", PrintableText, nullable=False),
    sa.Column("subscriber", Id, sa.ForeignKey("subscribers.id", ondelete="CASCADE"), index=True),
    sqlite_autoincrement=True,
)
