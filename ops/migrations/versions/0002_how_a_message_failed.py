"""How a failed message failed: the code of its stream's terminal, and whether asking again may help."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. So far only a producer's own commit left timings; viewers and the repair closed for a lost producer."""
    op.add_column("message", sa.Column("code", sa.String(), nullable=True))
    op.add_column("message", sa.Column("retryable", sa.Boolean(), nullable=True))
    op.execute(
        "UPDATE message SET retryable = true, "
        "code = CASE WHEN timings IS NULL THEN 'producer_lost' ELSE 'internal' END WHERE status = 'failed'"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_column("message", "retryable")
    op.drop_column("message", "code")
