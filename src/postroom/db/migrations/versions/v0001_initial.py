"""Create the first version of the tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out instead of imported from `schema`, because a released migration never changes.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create all tables, each one after the tables that its foreign keys refer to."""
    _post_log()
    _issues()
    _run_state()
    _runs()
    _subscribers()
    _ledger_claim()
    _suppression_key()
    _suppressions()
    _deliveries()
    _events()
    _lease()
    _issue_posts()


def _post_log() -> None:
    op.create_table(
        "post_log",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("post", TEXT, nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("retracted", sa.Boolean(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("post_log_pkey")),
    )
    op.create_index(op.f("post_log_post"), "post_log", ["post"], unique=False)


def _issues() -> None:
    op.create_table(
        "issues",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("frequency", TEXT, nullable=False),
        sa.Column("cutoff", sa.Date(), nullable=False),
        sa.Column("language", TEXT, nullable=False),
        sa.Column("date", INSTANT, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "frequency IN ('post', 'day', 'week', 'month', 'welcome')",
            name=op.f("issues_frequency_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("issues_pkey")),
        sa.UniqueConstraint("key", name=op.f("issues_key_key")),
        sqlite_autoincrement=True,
    )


def _run_state() -> None:
    op.create_table(
        "run_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("clock", INSTANT, nullable=False),
        sa.Column("released", sa.Date(), nullable=False),
        sa.Column("zone", TEXT, nullable=False),
        sa.Column("floor", sa.Date(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("run_state_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("run_state_pkey")),
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
        sa.Column("cursor_date", sa.Date(), nullable=False),
        sa.Column("cursor_seq", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.Date(), nullable=False),
        sa.Column("issues", sa.BigInteger(), nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.CheckConstraint(
            "frequency IN ('post', 'day', 'week', 'month')",
            name=op.f("subscribers_frequency_check"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'paused', 'unsubscribed', 'bounced', 'complained')",
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
        ["state", "frequency", "cursor_date", "cursor_seq", "topics", "language", "id"],
        unique=False,
    )


def _ledger_claim() -> None:
    op.create_table(
        "ledger_claim",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("site", TEXT, nullable=False),
        sa.Column("machine", sa.String(length=64), nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ledger_claim_one_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("ledger_claim_pkey")),
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
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("issue", ID, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("cursor_date", sa.Date(), nullable=False),
        sa.Column("cursor_seq", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", INSTANT, nullable=True),
        sa.Column("run", ID, nullable=False),
        sa.Column("changed", INSTANT, nullable=False),
        sa.Column("reply", TEXT, nullable=False),
        sa.Column("refused", INSTANT, nullable=True),
        sa.Column("acknowledged", INSTANT, nullable=True),
        sa.CheckConstraint(
            "state IN ('planned', 'sending', 'sent', 'deferred', 'bounced', 'cancelled',"
            " 'uncertain')",
            name=op.f("deliveries_state_check"),
        ),
        sa.ForeignKeyConstraint(["issue"], ["issues.id"], name=op.f("deliveries_issue_fkey")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("deliveries_run_fkey")),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["subscribers.id"],
            name=op.f("deliveries_subscriber_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("deliveries_pkey")),
        sa.UniqueConstraint("subscriber", "number", name=op.f("deliveries_subscriber_number_key")),
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
        sa.CheckConstraint("id = 1", name=op.f("lease_one_row_check")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("lease_run_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("lease_pkey")),
    )


def _issue_posts() -> None:
    op.create_table(
        "issue_posts",
        sa.Column("issue", ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("post", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["issue"], ["issues.id"], name=op.f("issue_posts_issue_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("issue", "position", name=op.f("issue_posts_pkey")),
    )
    op.create_index("issue_posts_post_issue", "issue_posts", ["post", "issue"], unique=False)
