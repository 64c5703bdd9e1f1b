"""Who owns a conversation: the name that goes with the API key which began it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Conversations from before belong to nobody: they are read while no keys are set, and by no key."""
    op.add_column("conversation", sa.Column("owner", sa.String(), nullable=True))


def downgrade() -> None:
    """Undo. Whose a conversation was is lost."""
    op.drop_column("conversation", "owner")
