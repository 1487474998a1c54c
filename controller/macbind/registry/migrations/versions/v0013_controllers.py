"""The controllers that share the registry."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "controller",
        sa.Column("id", sa.Text(), nullable=False, comment="made anew at each start"),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("socket", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("heard_at", sa.Double(), nullable=False),
        sa.Column(
            "said",
            sa.JSON(),
            nullable=False,
            comment="which DHCP servers it leads, and how it gets on with them",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_controller")),
        sqlite_with_rowid=False,
    )
