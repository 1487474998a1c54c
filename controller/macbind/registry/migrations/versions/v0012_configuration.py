"""The configuration that all controllers share, and DHCP servers that were taken out."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "configuration",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column(
            "is_applied",
            sa.Boolean(),
            nullable=False,
            comment="whether files that say otherwise are outdated",
        ),
        sa.Column(
            "gen", sa.BigInteger(), nullable=False, comment="the generation of bindings that it made anew"
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_configuration")),
        sqlite_with_rowid=False,
    )
    op.add_column(
        "dhcpd", sa.Column("out", sa.Text(), nullable=True, comment="how it was taken out; NULL: it was not")
    )
    op.add_column("dhcpd", sa.Column("out_at", sa.Double(), nullable=True))
    op.add_column("dhcpd", sa.Column("out_by", sa.Text(), nullable=True))
