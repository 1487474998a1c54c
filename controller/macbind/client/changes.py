"""The calls that change allocations and reservations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any
from uuid import uuid4

from macbind.client import codec
from macbind.client.caller import Caller, rehearsal, segment
from macbind.client.places import NO_HEADERS
from macbind.core.address_range import parse_address
from macbind.core.allocation import Allocation, BulkItem, Released
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.labels import NO_LABELS, Labels, Wanted
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Confirm


class ChangeCalls(Caller):
    """Allocates, reserves, releases and labels."""

    def allocate(
        self,
        pool: str,
        name: str | None = None,
        *,
        address: IPv4Address | str | None = None,
        options: DhcpOptions = NO_OPTIONS,
        group: str | None = None,
        domain: str | None = None,
        ttl_s: float | None = None,
        labels: Labels = NO_LABELS,
        confirm: Confirm | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Allocation:
        """Takes the first unoccupied address of a pool; when this returns, the machine may be started.

        Args:
            pool: The pool.
            name: The key to find it again; made up if left out. A lost answer leaves nothing behind in either case:
                the client asks again, and finds what it has.
            address: This address and no other.
            options: DHCP options of this machine on top of the pool's.
            group: A group to release it with.
            domain: The libvirt domain it is for.
            ttl_s: Released by itself after so many seconds; asking again renews it.
            labels: Labels to find it by: values by keys.
            confirm: How many DHCP servers are waited for; what the pool says by default. The answer to ``any`` may be
                ``pending``: ``confirmed_by`` names those that serve the machine.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be taken. No machine may be started with that.

        Raises:
            RequestError: It is not possible; asking again changes nothing.
            PeerError: dhcpd or the service is unavailable; the same call may succeed later.
        """
        key = uuid4().hex
        headers = {"Idempotency-Key": key} if name is None else {}
        name = f"vm-{key[:12]}" if name is None else name
        wanted = None if address is None else parse_address(str(address))
        body = {"name": name, "group": group, "labels": dict(labels), "reason": reason, "confirm": confirm}
        made = self._allocate(pool, body, options, domain, ttl_s, wanted, dry_run=dry_run, headers=headers)
        self._answers.check_names(made, [name])
        self._answers.check(made, address=wanted)
        return made[0]

    def allocate_group(
        self,
        pool: str,
        group: str,
        count: int | None = None,
        *,
        names: Sequence[str] | None = None,
        options: DhcpOptions = NO_OPTIONS,
        domain: str | None = None,
        ttl_s: float | None = None,
        labels: Labels = NO_LABELS,
        confirm: Confirm | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> list[Allocation]:
        """Takes several addresses, all or none.

        Args:
            pool: The pool.
            group: The group; release it as one with :meth:`release_group`.
            count: How many; the members are named ``group-1``, ``group-2`` …
            names: Their names, instead of a count.
            options: DHCP options of each of these machines.
            domain: The libvirt domain they are for.
            ttl_s: Released by themselves after so many seconds.
            labels: Labels of each of them.
            confirm: As of :meth:`allocate`.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be taken.

        Returns:
            The allocations in the order of their names as asked for.
        """
        asked = None if names is None else list(names)
        body = {"group": group, "count": count, "names": asked, "labels": dict(labels), "reason": reason}
        body["confirm"] = confirm
        made = self._allocate(pool, body, options, domain, ttl_s, None, dry_run=dry_run)
        self._answers.check_names(
            made, asked or [f"{group}-{number}" for number in range(1, (count or 0) + 1)]
        )
        return made

    def _allocate(
        self,
        pool: str,
        body: dict[str, Any],
        options: DhcpOptions,
        domain: str | None,
        ttl_s: float | None,
        address: IPv4Address | None,
        *,
        dry_run: bool,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> list[Allocation]:
        request = body | {"pool": pool, "options": options.to_dict(), "domain": domain, "ttl_s": ttl_s}
        request |= rehearsal(dry_run)
        if address is not None:
            request["address"] = str(address)
        made = self._answers.read(
            codec.PAGE, self._post("/v1/allocations", request, headers=headers)
        ).allocations
        if not made:
            raise self._transport.not_macbind()
        self._answers.check(made, pool=pool, group=body["group"])
        self._answers.check_labels(made, body["labels"])
        return made

    def release(
        self,
        name: str | None = None,
        *,
        address: IPv4Address | str | None = None,
        generation: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Released:
        """Releases one allocation; when this returns, its address can be allocated again.

        Args:
            name: Its name.
            address: Or its address.
            generation: Only if it is still of this generation: a late or repeated call cannot hit a successor.
                Without it this call is never repeated by itself once the service may have carried it out.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be released.

        Raises:
            InvalidRequest: Both or none of name and address are given.
        """
        body: dict[str, Any] = {"name": name, "generation": generation, "reason": reason}
        body |= rehearsal(dry_run)
        wanted = None if address is None else parse_address(str(address))
        if wanted is not None:
            body["address"] = str(wanted)
        done = self._release(body, may_repeat=generation is not None)
        self._answers.check(done.allocations, name=name)
        if (
            wanted is not None
            and done.allocations
            and wanted not in {one.address for one in done.allocations}
        ):
            raise self._answers.mismatch(f"the address {done.allocations[0].address}", str(wanted))
        return done

    def release_group(self, group: str, *, reason: str | None = None, dry_run: bool = False) -> Released:
        """Releases every allocation of a group; a dry run only says which that would be."""
        body = {"group": group, "reason": reason} | rehearsal(dry_run)
        done = self._release(body, may_repeat=False)
        self._answers.check(done.allocations, group=group)
        return done

    def release_labelled(
        self, labels: Wanted, *, pool: str | None = None, reason: str | None = None
    ) -> Sequence[BulkItem]:
        """Releases every allocation that has all of these labels; reservations are refused one by one.

        Args:
            labels: Values by keys; None stands for any value.
            pool: Only those of this pool.
            reason: Why, for the audit log.

        Returns:
            One item for each of them, in the order of their addresses.
        """
        body = {"labels": dict(labels), "pool": pool, "reason": reason}
        items = self._answers.read(codec.BULK, self._post("/v1/release/labelled", body, may_repeat=False))
        found = [item.allocation for item in items]
        self._answers.check(found, pool=pool)
        self._answers.check_labels(found, labels)
        return items

    def label(
        self,
        name: str,
        labels: Labels = NO_LABELS,
        *,
        remove: Sequence[str] = (),
        reason: str | None = None,
    ) -> Allocation:
        """Sets labels of an allocation or a reservation, and removes others; all others stay as they are.

        Args:
            name: Its name.
            labels: The labels to set: values by keys.
            remove: The keys of those to remove.
            reason: Why, for the audit log.

        Raises:
            NotFound: There is no such allocation.
            InvalidLabel: One of them is no label, or they would be too many.
        """
        body = {"name": name, "labels": dict(labels), "remove": list(remove), "reason": reason}
        found = self._answers.read(codec.ALLOCATION, self._post("/v1/labels", body))
        self._answers.check([found], name=name)
        self._answers.check_labels([found], labels)
        return found

    def _release(self, body: dict[str, Any], *, may_repeat: bool) -> Released:
        return self._answers.read(codec.RELEASED, self._post("/v1/release", body, may_repeat=may_repeat))

    def remark(self, name: str, reason: str) -> Allocation:
        """Writes a reason into the audit log, and changes nothing: of what the caller is about to do elsewhere.

        Raises:
            NotFound: There is no such allocation.
        """
        body = {"name": name, "reason": reason}
        found = self._answers.read(codec.ALLOCATION, self._post("/v1/remarks", body))
        self._answers.check([found], name=name)
        return found

    def reserve(
        self,
        name: str,
        address: IPv4Address | str,
        *,
        mac: MacAddress | str | None = None,
        options: DhcpOptions = NO_OPTIONS,
        labels: Labels = NO_LABELS,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Allocation:
        """Pins an address: only :meth:`unreserve` ends it.

        Args:
            name: Its name.
            address: An address of a pool's subnet.
            mac: A foreign MAC, e.g. of a printer; by default the address's own.
            options: DHCP options of this machine.
            labels: Labels to find it by: values by keys.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be reserved.
        """
        wanted = parse_address(str(address))
        foreign = MacAddress.parse(mac) if isinstance(mac, str) else mac
        body: dict[str, Any] = {"name": name, "address": str(wanted), "options": options.to_dict()}
        body |= {"labels": dict(labels), "reason": reason} | rehearsal(dry_run)
        if foreign is not None:
            body["mac"] = str(foreign)
        made = self._answers.read(codec.ALLOCATION, self._post("/v1/reservations", body))
        self._answers.check([made], name=name, address=wanted, mac=foreign)
        self._answers.check_labels([made], labels)
        return made

    def unreserve(self, name: str, *, reason: str | None = None, dry_run: bool = False) -> Released:
        """Ends a reservation; the reason is for the audit log. A dry run only says which that would be."""
        path = f"/v1/reservations/{segment(name)}"
        params = self._completed({"reason": reason} | rehearsal(dry_run))
        answer = self._transport.call("DELETE", path, params=params, may_repeat=False, headers=self._headers)
        done = self._answers.read(codec.RELEASED, answer)
        self._answers.check(done.allocations, name=name)
        return done
