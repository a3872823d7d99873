"""Subscribers, suppressions, arrivals, the release, runs, letters, deliveries and events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not taken from `columns`: what was released stays as it was.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the first tables, each after those that it refers to."""
    _arrivals()
    _letters()
    _release()
    _runs()
    _subscribers()
    _suppression_key()
    _suppressions()
    _deliveries()
    _events()
    _lease()
    _letter_posts()


def _arrivals() -> None:
    op.create_table(
        "arrivals",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("post", TEXT, nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("struck", sa.Boolean(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("arrivals_pkey")),
    )
    op.create_index(op.f("arrivals_post"), "arrivals", ["post"], unique=False)


def _letters() -> None:
    op.create_table(
        "letters",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("frequency", TEXT, nullable=False),
        sa.Column("boundary", sa.Date(), nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("date", INSTANT, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "frequency IN ('post', 'day', 'week', 'month', 'welcome')",
            name=op.f("letters_frequency_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("letters_pkey")),
        sa.UniqueConstraint("key", name=op.f("letters_key_key")),
        sqlite_autoincrement=True,
    )


def _release() -> None:
    op.create_table(
        "release",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("clock", INSTANT, nullable=False),
        sa.Column("released", sa.Date(), nullable=False),
        sa.Column("zone", TEXT, nullable=False),
        sa.Column("floor", sa.Date(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("release_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("release_pkey")),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("started", INSTANT, nullable=False),
        sa.Column("ended", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pkey")),
        sqlite_autoincrement=True,
    )


def _subscribers() -> None:
    op.create_table(
        "subscribers",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("address", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("frequency", TEXT, nullable=False),
        sa.Column("topics", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("before", sa.Date(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.Date(), nullable=False),
        sa.Column("letters", sa.BigInteger(), nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.CheckConstraint(
            "frequency IN ('post', 'day', 'week', 'month')",
            name=op.f("subscribers_frequency_check"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'paused', 'left', 'bounced', 'complained')",
            name=op.f("subscribers_state_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("subscribers_pkey")),
        sa.UniqueConstraint("key", name=op.f("subscribers_key_key")),
        sa.UniqueConstraint("token", name=op.f("subscribers_token_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "subscribers_groups",
        "subscribers",
        ["state", "frequency", "before", "upto", "topics", "language", "id"],
        unique=False,
    )


def _suppression_key() -> None:
    op.create_table(
        "suppression_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("proof", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("suppression_key_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("suppression_key_pkey")),
    )


def _suppressions() -> None:
    op.create_table(
        "suppressions",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "reason IN ('forgotten', 'bounced', 'complained')",
            name=op.f("suppressions_reason_check"),
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("suppressions_pkey")),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", ID, nullable=False),
        sa.Column("subscriber", ID, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("letter", ID, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("before", sa.Date(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", INSTANT, nullable=True),
        sa.Column("run", ID, nullable=False),
        sa.Column("changed", INSTANT, nullable=False),
        sa.Column("reply", TEXT, nullable=False),
        sa.CheckConstraint(
            "state IN ('planned', 'sending', 'sent', 'deferred', 'bounced', 'cancelled',"
            " 'uncertain')",
            name=op.f("deliveries_state_check"),
        ),
        sa.ForeignKeyConstraint(["letter"], ["letters.id"], name=op.f("deliveries_letter_fkey")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("deliveries_run_fkey")),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["subscribers.id"],
            name=op.f("deliveries_subscriber_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("deliveries_pkey")),
        sa.UniqueConstraint("subscriber", "n", name=op.f("deliveries_subscriber_n_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("deliveries_state_id", "deliveries", ["state", "id"], unique=False)


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("subscriber", ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["subscribers.id"],
            name=op.f("events_subscriber_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("events_pkey")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("events_subscriber"), "events", ["subscriber"], unique=False)


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run", ID, nullable=False),
        sa.Column("until", INSTANT, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("lease_one_row_check")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("lease_run_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("lease_pkey")),
    )


def _letter_posts() -> None:
    op.create_table(
        "letter_posts",
        sa.Column("letter", ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("post", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["letter"], ["letters.id"], name=op.f("letter_posts_letter_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("letter", "position", name=op.f("letter_posts_pkey")),
    )
    op.create_index("letter_posts_post_letter", "letter_posts", ["post", "letter"], unique=False)
