"""A lease that ends with its holder, not at an instant."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forget until when the lease was held."""
    op.drop_column("lease", "until")
