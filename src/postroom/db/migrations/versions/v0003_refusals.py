"""When the mail server refused a delivery, and when an uncertain one was acknowledged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add both instants; earlier rows have none, since their commands were not recorded."""
    op.add_column("deliveries", sa.Column("refused", INSTANT, nullable=True))
    op.add_column("deliveries", sa.Column("acknowledged", INSTANT, nullable=True))
