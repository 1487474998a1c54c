"""A renumbering is leased by a token with a time, no longer owned by a process; `moves_from` is `renumbers_from`."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LIVE = sa.text("free_at IS NULL AND renumbers_from IS NULL")
_TARGET = sa.text("renumbers_from IS NOT NULL")


def upgrade() -> None:
    for column in (
        sa.Column(
            "renumbers_from",
            sa.BigInteger(),
            nullable=True,
            comment="the address whose holder is being renumbered to this one",
        ),
        sa.Column("lease_token", sa.Text(), nullable=True, comment="whoever has it holds the renumbering"),
        sa.Column("lease_until", sa.Double(), nullable=True, comment="from then on anybody may take it over"),
    ):
        op.add_column("allocation", column)
    op.execute(
        "UPDATE allocation SET renumbers_from = moves_from, lease_until = 0 WHERE moves_from IS NOT NULL"
    )
    op.execute("UPDATE allocation SET phase = 'migrated' WHERE phase = 'moved'")
    op.drop_index("uq_allocation_name", "allocation")
    op.drop_index("uq_allocation_moves_from", "allocation")
    op.drop_column("allocation", "moves_from")
    op.drop_column("allocation", "mover")
    op.create_index(
        "uq_allocation_name",
        "allocation",
        ["name"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_index(
        "uq_allocation_renumbers_from",
        "allocation",
        ["renumbers_from"],
        unique=True,
        sqlite_where=_TARGET,
        postgresql_where=_TARGET,
    )
