"""Which libvirt domain uses an allocation."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("hypervisor", "domain_uuid", "phase"):
        op.add_column("allocation", sa.Column(name, sa.Text(), nullable=True))
    op.create_index(
        "ix_allocation_hypervisor",
        "allocation",
        ["hypervisor", "domain_uuid"],
        unique=False,
        sqlite_where=sa.text("hypervisor IS NOT NULL"),
        postgresql_where=sa.text("hypervisor IS NOT NULL"),
    )
