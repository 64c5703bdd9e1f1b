"""Who put a flag document in force and why, and the hash by which each generation holds on to the one before."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Earlier generations keep no hash: nobody can vouch for them."""
    op.add_column("flag_document", sa.Column("changed_by", sa.String(), nullable=False, server_default=""))
    op.add_column("flag_document", sa.Column("reason", sa.String(), nullable=False, server_default=""))
    op.add_column("flag_document", sa.Column("hash", sa.String(), nullable=True))


def downgrade() -> None:
    """Undo."""
    for column in ("hash", "reason", "changed_by"):
        op.drop_column("flag_document", column)
