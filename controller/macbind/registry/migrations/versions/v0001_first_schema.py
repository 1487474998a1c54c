"""The first schema: pools, free extents, allocations, what each dhcpd was told, the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("ip", sa.BigInteger(), nullable=True),
        sa.Column("gen", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_ip", "audit", ["ip"], unique=False)
    op.create_table(
        "dhcpd",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dhcpd")),
        sa.UniqueConstraint("name", name=op.f("uq_dhcpd_name")),
    )
    op.create_table(
        "pool",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False, comment="the ranges the free extents were made from"),
        sa.Column(
            "extra",
            sa.Text(),
            nullable=False,
            comment="options of pool and subnet that the bindings were made with",
        ),
        sa.Column("rev", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool")),
        sa.UniqueConstraint("name", name=op.f("uq_pool_name")),
    )
    op.create_table(
        "allocation",
        sa.Column("ip", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mac", sa.BigInteger(), nullable=False),
        sa.Column("pool_id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("gen", sa.BigInteger(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=True),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=True),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("released_at", sa.Double(), nullable=True),
        sa.Column(
            "free_at",
            sa.Double(),
            nullable=True,
            comment="set when released: not before this may the address be used again",
        ),
        sa.CheckConstraint(
            "(released_at IS NULL) = (free_at IS NULL)", name=op.f("ck_allocation_released_rests")
        ),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name=op.f("fk_allocation_pool_id")),
        sa.PrimaryKeyConstraint("ip", name=op.f("pk_allocation")),
        sa.UniqueConstraint("mac", name=op.f("uq_allocation_mac")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_allocation_expires_at",
        "allocation",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_allocation_free_at",
        "allocation",
        ["pool_id", "free_at"],
        unique=False,
        sqlite_where=sa.text("free_at IS NOT NULL"),
        postgresql_where=sa.text("free_at IS NOT NULL"),
    )
    op.create_index(
        "ix_allocation_grp",
        "allocation",
        ["grp"],
        unique=False,
        sqlite_where=sa.text("grp IS NOT NULL"),
        postgresql_where=sa.text("grp IS NOT NULL"),
    )
    op.create_index("ix_allocation_pool_id", "allocation", ["pool_id", "ip"], unique=False)
    op.create_index(
        "uq_allocation_name",
        "allocation",
        ["name"],
        unique=True,
        sqlite_where=sa.text("free_at IS NULL"),
        postgresql_where=sa.text("free_at IS NULL"),
    )
    op.create_table(
        "dirty",
        sa.Column("dhcpd_id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("ip", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["dhcpd_id"], ["dhcpd.id"], name=op.f("fk_dirty_dhcpd_id")),
        sa.PrimaryKeyConstraint("dhcpd_id", "ip", name=op.f("pk_dirty")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dirty_ip", "dirty", ["ip"], unique=False)
    op.create_table(
        "free_extent",
        sa.Column("pool_id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("hi", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lo", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("lo <= hi", name=op.f("ck_free_extent_ordered")),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name=op.f("fk_free_extent_pool_id")),
        sa.PrimaryKeyConstraint("pool_id", "hi", name=op.f("pk_free_extent")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_free_extent_lo", "free_extent", ["pool_id", "lo"], unique=True)
    op.create_table(
        "told",
        sa.Column("dhcpd_id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("ip", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["dhcpd_id"], ["dhcpd.id"], name=op.f("fk_told_dhcpd_id")),
        sa.PrimaryKeyConstraint("dhcpd_id", "ip", name=op.f("pk_told")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_told_ip", "told", ["ip"], unique=False)
