"""A domain that is missing without an event that says why is in doubt, also after a restart of the service."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "allocation",
        sa.Column(
            "doubted_at",
            sa.Double(),
            nullable=True,
            comment="since when that domain is missing or off without an event that says why",
        ),
    )
    op.create_index(
        "ix_allocation_doubted_at",
        "allocation",
        ["doubted_at"],
        unique=False,
        sqlite_where=sa.text("doubted_at IS NOT NULL"),
        postgresql_where=sa.text("doubted_at IS NOT NULL"),
    )
