"""Who moves a machine is recorded, so that no second process handles its card meanwhile."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "allocation",
        sa.Column(
            "mover",
            sa.Text(),
            nullable=True,
            comment="the process that moves its holder to this address, until expires_at or its own end",
        ),
    )
