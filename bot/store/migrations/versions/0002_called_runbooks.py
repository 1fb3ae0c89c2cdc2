"""Runs pin the runbooks that theirs calls. Only added to, so that older workers go on beside."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("called_texts", sa.Text(), server_default="{}", nullable=False)
    op.add_column("runs", column)


def downgrade() -> None:
    raise NotImplementedError("Runs may hold called runbooks by now; restore a backup.")
