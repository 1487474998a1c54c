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
        comment="options of pool and subnet that the bindings were made with",
    ),
    # The last generation of its allocations and the last mark in pending.seq; only ever grows.
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
    Column(
        "doubted_at",
        Double,
        comment="since when that domain is missing or off without an event that says why",
    ),
    Column("pinned", Boolean, nullable=False),
    Column(
        "labels", Integer, nullable=False, server_default=text("0"), comment="how many rows of label it has"
    ),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("released_at", Double),
    Column("free_at", Double, comment="set when released: not before this may the address be used again"),
    Column(
        "renumbers_from",
        BigInteger,
        comment="the address whose holder is being renumbered to this one",
    ),
    Column("lease_token", Text, comment="whoever has it holds the renumbering"),
    Column("lease_until", Double, comment="from then on anybody may take it over"),
    CheckConstraint("(released_at IS NULL) = (free_at IS NULL)", name="released_rests"),
    # A name is held by one live allocation, and while it is renumbered by its new one, too; a released one keeps its
    # name for the record.
    Index(
        "uq_allocation_name",
        "name",
        unique=True,
        sqlite_where=text("free_at IS NULL AND renumbers_from IS NULL"),
        postgresql_where=text("free_at IS NULL AND renumbers_from IS NULL"),
    ),
    Index(
        "uq_allocation_renumbers_from",
        "renumbers_from",
        unique=True,
        sqlite_where=text("renumbers_from IS NOT NULL"),
        postgresql_where=text("renumbers_from IS NOT NULL"),
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
        "ix_allocation_doubted_at",
        "doubted_at",
        sqlite_where=text("doubted_at IS NOT NULL"),
        postgresql_where=text("doubted_at IS NOT NULL"),
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

label = Table(
    "label",
    metadata,
    # They end with the row of the allocation, however it is deleted.
    Column("ip", ForeignKey("allocation.ip", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_label_key", "key", "value"),
    sqlite_with_rowid=False,
)

seen = Table(
    "seen",
    metadata,
    # When a machine was last seen, roughly: what a restart of the service must not forget.
    Column("ip", ForeignKey("allocation.ip", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("source", Text, nullable=False),
    sqlite_with_rowid=False,
)

watching = Table(
    "watching",
    metadata,
    # One row: from when to when machines were looked at without a break.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("since", Double, nullable=False),
    Column("until", Double, nullable=False),
)

dhcpd = Table(
    "dhcpd",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("out", Text, comment="how it was taken out; NULL: it was not"),
    Column("out_at", Double),
    Column("out_by", Text),
)

confirmed = Table(
    "confirmed",
    metadata,
    # The generation this dhcpd has confirmed for this address.
    Column("dhcpd_id", ForeignKey("dhcpd.id"), primary_key=True),
    Column("ip", BigInteger, primary_key=True, autoincrement=False),
    Column("gen", BigInteger, nullable=False),
    Index("ix_confirmed_ip", "ip"),
    sqlite_with_rowid=False,
)

pending = Table(
    "pending",
    metadata,
    # "Look at this address again"; seq tells a look that began before the last change from one after it.
    Column("dhcpd_id", ForeignKey("dhcpd.id"), primary_key=True),
    Column("ip", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Index("ix_pending_ip", "ip"),
    sqlite_with_rowid=False,
)

evidence = Table(
    "evidence",
    metadata,
    # An address that others use. It is no free extent, whether or not it is allocated.
    Column("ip", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, primary_key=True),
    Column("origin", Text, primary_key=True, comment="who saw it: a dhcpd, a hypervisor, an interface"),
    Column("mac", BigInteger),
    Column("holder", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("until", Double, comment="when it ends by itself"),
    Index("ix_evidence_until", "until"),
    sqlite_with_rowid=False,
)

muted = Table(
    "muted",
    metadata,
    # A finding that an admin does not want to hear of for a while.
    Column("code", Text, primary_key=True),
    Column("subject", Text, primary_key=True, comment="empty: whatever it is about"),
    Column("until", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Double, nullable=False),
    sqlite_with_rowid=False,
)

configuration = Table(
    "configuration",
    metadata,
    # What all controllers share of their configuration files. The one of the highest revision is in use.
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("fingerprint", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("is_applied", Boolean, nullable=False, comment="whether files that say otherwise are outdated"),
    Column("gen", BigInteger, nullable=False, comment="the generation of bindings that it made anew"),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    sqlite_with_rowid=False,
)

controller = Table(
    "controller",
    metadata,
    # Who shares the registry. The database's clock says when each was last heard of.
    Column("id", Text, primary_key=True, comment="made anew at each start"),
    Column("host", Text, nullable=False),
    Column("socket", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("heard_at", Double, nullable=False),
    Column("said", JSON, nullable=False, comment="which DHCP servers it leads, and how it gets on with them"),
    sqlite_with_rowid=False,
)

request = Table(
    "request",
    metadata,
    # What a caller may ask again: whose request it was, hashed, and when it was carried out.
    Column("key", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Index("ix_request_at", "at"),
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
    Column("request", Text, comment="what all changes of one request have in common"),
    Index("ix_audit_ip", "ip"),
    Index("ix_audit_at", "at"),
)
