"""A name that moves from one address to another holds both for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "allocation",
        sa.Column(
            "moves_from",
            sa.BigInteger(),
            nullable=True,
            comment="the address whose holder is moving to this one, until it has arrived",
        ),
    )
    op.drop_index("uq_allocation_name", "allocation")
    op.create_index(
        "uq_allocation_name",
        "allocation",
        ["name"],
        unique=True,
        sqlite_where=sa.text("free_at IS NULL AND moves_from IS NULL"),
        postgresql_where=sa.text("free_at IS NULL AND moves_from IS NULL"),
    )
    op.create_index(
        "uq_allocation_moves_from",
        "allocation",
        ["moves_from"],
        unique=True,
        sqlite_where=sa.text("moves_from IS NOT NULL"),
        postgresql_where=sa.text("moves_from IS NOT NULL"),
    )
