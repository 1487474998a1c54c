"""Requests that were carried out, for repeats of those that leave the name to the service."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_request")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_request_at", "request", ["at"], unique=False)
