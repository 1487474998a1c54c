"""The calls of admins: the configuration that all controllers share, imports, and the DHCP servers that are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from macbind.client import codec
from macbind.client.caller import Caller
from macbind.core.dhcp_servers import Server
from macbind.core.import_plan import ImportEntry, ImportPlan
from macbind.core.shared_configuration import Recorded, SharedConfiguration


class AdministrationCalls(Caller):
    """Changes what all controllers share, imports, and takes DHCP servers out and in."""

    def import_entries(
        self,
        entries: Sequence[ImportEntry],
        *,
        apply: bool = False,
        skip_conflicts: bool = False,
        reason: str | None = None,
    ) -> ImportPlan:
        """Says what becomes of each entry of a list, and does it in one transaction if that is meant.

        Args:
            entries: The entries; :func:`macbind.importing.forms.read_list` reads them from a file.
            apply: Whether to do what is new or changed. When this returns, dhcpd has confirmed it. Nothing is done if
                an entry is in conflict or impossible.
            skip_conflicts: Whether to do all others then.
            reason: Why, for the audit log.

        Raises:
            DhcpdUnavailable: dhcpd did not confirm in time; what was imported stays.
        """
        body: dict[str, Any] = {"entries": [one.to_dict() for one in entries], "reason": reason}
        body |= {key: True for key, value in (("apply", apply), ("skip_conflicts", skip_conflicts)) if value}
        found = self._answers.read(codec.IMPORT, self._post("/v1/import", body))
        asked = [(one.line, one.file, one.name) for one in entries]
        if [(one.line, one.file, one.name) for one in found.rows] != asked:
            raise self._answers.mismatch(f"{len(found.rows)} rows", f"a plan of {len(asked)} entries")
        return found

    def recover(
        self, *, apply: bool = False, skip_conflicts: bool = False, reason: str | None = None
    ) -> ImportPlan:
        """Says which machines that are seen can be allocated again, and does it in one transaction if that is meant.

        Where the registry was lost, or is older than what DHCP servers and hypervisors have: what shows an address
        with the MAC that its pool makes of it is a machine that the registry has forgotten.

        Args:
            apply: Whether to do it. When this returns, dhcpd has confirmed it. Nothing is done if one of them is in
                conflict or impossible.
            skip_conflicts: Whether to do all others then.
            reason: Why, for the audit log.

        Raises:
            DhcpdUnavailable: dhcpd did not confirm in time; what was recovered stays.
        """
        body = {"apply": apply, "skip_conflicts": skip_conflicts, "reason": reason}
        return self._answers.read(codec.IMPORT, self._post("/v1/recover", body))

    def configuration(self) -> Recorded:
        """The configuration that all controllers of the registry share."""
        return self._answers.read(codec.CONFIGURATION, self._get("/v1/configuration"))

    def apply_configuration(self, shared: SharedConfiguration, *, reason: str | None = None) -> Recorded:
        """Has all controllers of the registry use a configuration; all of them read it within seconds.

        Args:
            shared: What they share of it.
            reason: Why, for the audit log.

        Raises:
            NotPermitted: Only root and the service's own user may do that, on the service's host.
            Conflict: It contradicts allocations that exist, or cannot be used by this service.
        """
        body = {"tables": shared.tables, "reason": reason}
        return self._answers.read(codec.CONFIGURATION, self._post("/v1/configuration", body))

    def dhcp_servers(self) -> Sequence[Server]:
        """The DHCP servers as all controllers see them, by name."""
        return self._answers.read(codec.SERVERS, self._get("/v1/dhcp"))

    def dhcp_out(self, name: str, *, forget: bool = False, reason: str | None = None) -> Server:
        """Takes a DHCP server out for all controllers: nobody waits for it any more.

        Args:
            name: Its name in the configuration.
            forget: Whether what it holds does not keep addresses from being free, either: it is gone for good.
            reason: Why, for the audit log.

        Raises:
            NotPermitted: Only root and the service's own user may do that, on the service's host.
            NotFound: There is no such server.
            Conflict: A pool would have no other one.
        """
        body = {"name": name, "forget": forget, "reason": reason}
        return self._answers.read(codec.SERVER, self._post("/v1/dhcp/out", body))

    def dhcp_in(self, name: str, *, reason: str | None = None) -> Server:
        """Takes a DHCP server in again; it is told all that it should hold.

        Raises:
            NotPermitted: Only root and the service's own user may do that, on the service's host.
            NotFound: There is no such server.
        """
        return self._answers.read(codec.SERVER, self._post("/v1/dhcp/in", {"name": name, "reason": reason}))
