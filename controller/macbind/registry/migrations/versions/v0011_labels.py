"""Labels, when machines were last seen, and the requests of changes.

Both tables end with their allocation: SQLite would empty them if ``allocation`` were made anew by a migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "label",
        sa.Column("ip", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["ip"], ["allocation.ip"], name=op.f("fk_label_ip"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("ip", "key", name=op.f("pk_label")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_label_key", "label", ["key", "value"], unique=False)
    op.create_table(
        "seen",
        sa.Column("ip", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["ip"], ["allocation.ip"], name=op.f("fk_seen_ip"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("ip", name=op.f("pk_seen")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "watching",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watching")),
    )
    op.add_column(
        "allocation",
        sa.Column(
            "labels",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="how many rows of label it has",
        ),
    )
    op.add_column(
        "audit",
        sa.Column(
            "request", sa.Text(), nullable=True, comment="what all changes of one request have in common"
        ),
    )
