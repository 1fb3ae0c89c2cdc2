"""Workers, and which of them drives a run."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    for column in (
        sa.Column("called_texts", sa.Text(), server_default="{}", nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Text(), nullable=True),
        sa.Column("engine", sa.Integer(), server_default="1", nullable=False),
    ):
        op.add_column("runs", column)
    for name in ("due_at", "worker"):
        is_set = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"ix_runs_{name.removesuffix('_at')}",
            "runs",
            [name],
            unique=False,
            sqlite_where=is_set,
            postgresql_where=is_set,
        )
    # Whoever starts next looks at every run that is not over.
    op.execute("UPDATE runs SET due_at = started_at WHERE status = 'running'")


def downgrade() -> None:
    raise NotImplementedError("There is no way back but the backup.")
