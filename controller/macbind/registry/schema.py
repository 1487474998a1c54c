"""The tables. Addresses and MACs are integers; times are seconds since 1970, UTC.

What may never happen is forbidden here: an address with two holders (primary key), a MAC with two addresses,
two live allocations of one name, free intervals that overlap in an end point. The code above is written so
that these are never hit; they are the last line of defence, not a way to find conflicts.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes "INTEGER PRIMARY KEY" the row id itself; a BIGINT would be a second index.
_Id = Integer().with_variant(BigInteger, "postgresql")

pool = Table(
    "pool",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("layout", Text, nullable=False, comment="the ranges the free extents were made from"),
    Column(
        "extra",
        Text,
        nullable=False,
        comment="options of pool and subnet that the host reservations were made with",
    ),
    # The last generation of its allocations and the last mark in dirty.seq; only ever grows.
    Column("rev", BigInteger, nullable=False, server_default=text("0")),
)

free_extent = Table(
    "free_extent",
    metadata,
    # Keyed by its upper end: taking the lowest address moves lo only, never the key.
    Column("pool_id", ForeignKey("pool.id"), primary_key=True),
    Column("hi", BigInteger, primary_key=True, autoincrement=False),
    Column("lo", BigInteger, nullable=False),
    CheckConstraint("lo <= hi", name="ordered"),
    Index("ix_free_extent_lo", "pool_id", "lo", unique=True),
    sqlite_with_rowid=False,
)

allocation = Table(
    "allocation",
    metadata,
    Column("ip", BigInteger, primary_key=True, autoincrement=False),
    Column("mac", BigInteger, nullable=False, unique=True),
    Column("pool_id", ForeignKey("pool.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("gen", BigInteger, nullable=False),
    Column("grp", Text),
    Column("options", JSON, nullable=False),
    Column("domain", Text),
    # The domain that uses it, once one was seen: which hypervisor, which UUID, how far it has come.
    Column("hypervisor", Text),
    Column("domain_uuid", Text),
    Column("phase", Text),
    Column("pinned", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("released_at", Double),
    Column("free_at", Double, comment="set when released: not before this may the address be used again"),
    Column(
        "moves_from",
        BigInteger,
        comment="the address whose holder is moving to this one, until it has arrived",
    ),
    Column(
        "mover",
        Text,
        comment="the process that moves its holder to this address, until expires_at or its own end",
    ),
    CheckConstraint("(released_at IS NULL) = (free_at IS NULL)", name="released_rests"),
    # A name is held by one live allocation, and while it moves by the one it moves to, too; a released one keeps its
    # name for the record.
    Index(
        "uq_allocation_name",
        "name",
        unique=True,
        sqlite_where=text("free_at IS NULL AND moves_from IS NULL"),
        postgresql_where=text("free_at IS NULL AND moves_from IS NULL"),
    ),
    Index(
        "uq_allocation_moves_from",
        "moves_from",
        unique=True,
        sqlite_where=text("moves_from IS NOT NULL"),
        postgresql_where=text("moves_from IS NOT NULL"),
    ),
    Index(
        "ix_allocation_released_name",
        "name",
        sqlite_where=text("free_at IS NOT NULL"),
        postgresql_where=text("free_at IS NOT NULL"),
    ),
    Index(
        "ix_allocation_free_at",
        "pool_id",
        "free_at",
        sqlite_where=text("free_at IS NOT NULL"),
        postgresql_where=text("free_at IS NOT NULL"),
    ),
    Index(
        "ix_allocation_expires_at",
        "expires_at",
        sqlite_where=text("expires_at IS NOT NULL"),
        postgresql_where=text("expires_at IS NOT NULL"),
    ),
    Index(
        "ix_allocation_hypervisor",
        "hypervisor",
        "domain_uuid",
        sqlite_where=text("hypervisor IS NOT NULL"),
        postgresql_where=text("hypervisor IS NOT NULL"),
    ),
    Index(
        "ix_allocation_grp",
        "grp",
        sqlite_where=text("grp IS NOT NULL"),
        postgresql_where=text("grp IS NOT NULL"),
    ),
    Index("ix_allocation_pool_id", "pool_id", "ip"),
    sqlite_with_rowid=False,
)

dhcpd = Table(
    "dhcpd",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

told = Table(
    "told",
    metadata,
    # The generation this dhcpd has confirmed for this address.
    Column("dhcpd_id", ForeignKey("dhcpd.id"), primary_key=True),
    Column("ip", BigInteger, primary_key=True, autoincrement=False),
    Column("gen", BigInteger, nullable=False),
    Index("ix_told_ip", "ip"),
    sqlite_with_rowid=False,
)

dirty = Table(
    "dirty",
    metadata,
    # "Look at this address again"; seq tells a look that began before the last change from one after it.
    Column("dhcpd_id", ForeignKey("dhcpd.id"), primary_key=True),
    Column("ip", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Index("ix_dirty_ip", "ip"),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("ip", BigInteger),
    Column("gen", BigInteger),
    Column("name", Text),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_ip", "ip"),
    Index("ix_audit_at", "at"),
)
