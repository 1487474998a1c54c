"""The values of the HTTP API as JSON: the service writes with these adapters, the client reads with them."""

from __future__ import annotations

from pydantic import TypeAdapter

from macbind.core.address_map import MapBlocks, MapPage
from macbind.core.allocation import (
    Allocation,
    AuditEntry,
    BulkItem,
    NetworkSettings,
    Page,
    Released,
    Renumbering,
)
from macbind.core.dhcp_servers import Server
from macbind.core.event import Change, FindingsNow, Gap
from macbind.core.findings import ControllerStatus, Status
from macbind.core.free_range import FreePage
from macbind.core.import_plan import ImportPlan
from macbind.core.pool import PoolUsage
from macbind.core.shared_configuration import Recorded
from macbind.core.why import Why

ALLOCATION = TypeAdapter(Allocation)
PAGE = TypeAdapter(Page)
BULK = TypeAdapter(list[BulkItem])
RELEASED = TypeAdapter(Released)
RENUMBERING = TypeAdapter(Renumbering)
RENUMBERINGS = TypeAdapter(list[Renumbering])
NETWORK_SETTINGS = TypeAdapter(NetworkSettings)
FREE = TypeAdapter(FreePage)
MAP = TypeAdapter(MapPage)
BLOCKS = TypeAdapter(MapBlocks)
POOLS = TypeAdapter(list[PoolUsage])
STATUS = TypeAdapter(Status)
CONTROLLERS = TypeAdapter(list[ControllerStatus])
CHANGE = TypeAdapter(Change)
GAP = TypeAdapter(Gap)
FINDINGS_NOW = TypeAdapter(FindingsNow)
NAMES = TypeAdapter(list[str])
HISTORY = TypeAdapter(list[AuditEntry])
WHY = TypeAdapter(list[Why])
CONFIGURATION = TypeAdapter(Recorded)
SERVER = TypeAdapter(Server)
SERVERS = TypeAdapter(list[Server])
IMPORT = TypeAdapter(ImportPlan)
