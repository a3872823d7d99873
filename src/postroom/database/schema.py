"""The tables. A change here is a new file in `migrations/versions` and a line in `VERSIONS`."""

from __future__ import annotations

from typing import get_args

import sqlalchemy as sa

from postroom.database.columns import Id, Instant, Prose, Text, Words
from postroom.model import DeliveryState, Frequency, LetterKind, Reason, State

VERSIONS = ("0001", "0002", "0003")
"""Every version there has been, oldest first; the last is the one that this program writes."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def _one_of(column: str, words: object) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in get_args(words))
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _one_row() -> tuple[sa.Column[int], sa.CheckConstraint]:
    key = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
    return key, sa.CheckConstraint("id = 1", name="one_row")


# A name of its own, so that a PostgreSQL database can be shared with other programs.
version = sa.Table(
    "postroom_version", metadata, sa.Column("version_num", sa.String(32), primary_key=True)
)

# An id is never used again, also after "forget me": a letter's Message-ID is made of it.
subscribers = sa.Table(
    "subscribers",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("key", Text, nullable=False, unique=True),
    sa.Column("address", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("frequency", Text, nullable=False),
    sa.Column("topics", Words, nullable=False),
    sa.Column("language", Text, nullable=False),
    sa.Column("before", sa.Date, nullable=False),
    sa.Column("upto", sa.BigInteger, nullable=False),
    sa.Column("start", sa.Date, nullable=False),
    sa.Column("letters", sa.BigInteger, nullable=False),
    # In clear, because every letter bears it; it opens nothing but its owner's own subscription.
    sa.Column("token", Text, nullable=False, unique=True),
    _one_of("state", State),
    _one_of("frequency", Frequency),
    sqlite_autoincrement=True,
)
# The order of planning: the groups of the active ones, then the members of a group by id.
sa.Index(
    "subscribers_groups",
    *(subscribers.c[name] for name in "state frequency before upto topics language id".split()),
)

suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("reason", Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    _one_of("reason", Reason),
)

# By which key the hashes above were made, told without telling it.
suppression_key = sa.Table(
    "suppression_key",
    metadata,
    *_one_row(),
    sa.Column("proof", sa.String(64), nullable=False),
)

arrivals = sa.Table(
    "arrivals",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("post", Prose, nullable=False, index=True),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("struck", sa.Boolean, nullable=False),
    sa.Column("returned", sa.Boolean, nullable=False),
)

release = sa.Table(
    "release",
    metadata,
    *_one_row(),
    sa.Column("clock", Instant, nullable=False),
    sa.Column("released", sa.Date, nullable=False),
    sa.Column("zone", Text, nullable=False),
    sa.Column("floor", sa.Date, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("started", Instant, nullable=False),
    sa.Column("ended", Instant),
    sqlite_autoincrement=True,
)

lease = sa.Table(
    "lease",
    metadata,
    *_one_row(),
    sa.Column("run", Id, sa.ForeignKey("runs.id"), nullable=False),
)

letters = sa.Table(
    "letters",
    metadata,
    sa.Column("id", Id, primary_key=True),
    # SHA-256 of (frequency, boundary, language, posts): what is frozen once.
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("frequency", Text, nullable=False),
    sa.Column("boundary", sa.Date, nullable=False),
    sa.Column("language", Text, nullable=False),
    sa.Column("date", Instant, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    _one_of("frequency", LetterKind),
    sqlite_autoincrement=True,
)

letter_posts = sa.Table(
    "letter_posts",
    metadata,
    sa.Column("letter", Id, sa.ForeignKey("letters.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("post", Prose, nullable=False),
)
sa.Index("letter_posts_post_letter", letter_posts.c.post, letter_posts.c.letter)

# `before` and `upto` are the bookmark that the subscriber has once this letter is delivered.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column(
        "subscriber", Id, sa.ForeignKey("subscribers.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("letter", Id, sa.ForeignKey("letters.id"), nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("before", sa.Date, nullable=False),
    sa.Column("upto", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", Instant),
    sa.Column("run", Id, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("changed", Instant, nullable=False),
    sa.Column("reply", Prose, nullable=False),
    # When the server refused the email for good, but not because there is no such mailbox.
    sa.Column("refused", Instant),
    # When a person decided to leave an uncertain delivery as it is.
    sa.Column("acknowledged", Instant),
    sa.UniqueConstraint("subscriber", "n"),
    _one_of("state", DeliveryState),
    sqlite_autoincrement=True,
)
sa.Index("deliveries_state_id", deliveries.c.state, deliveries.c.id)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("detail", Prose, nullable=False),
    sa.Column("subscriber", Id, sa.ForeignKey("subscribers.id", ondelete="CASCADE"), index=True),
    sqlite_autoincrement=True,
)
