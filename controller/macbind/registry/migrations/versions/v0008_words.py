"""`told` is `confirmed`, and `dirty` is `pending`."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for old, new in (("told", "confirmed"), ("dirty", "pending")):
        op.drop_index(f"ix_{old}_ip", old)
        op.rename_table(old, new)
        op.create_index(f"ix_{new}_ip", new, ["ip"], unique=False)
