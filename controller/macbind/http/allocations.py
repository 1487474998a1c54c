"""The operations of allocations and reservations."""

from __future__ import annotations

import asyncio

from macbind.client import codec
from macbind.core.allocation import Allocation, BulkItem, NetworkSettings, Page, Released, check_name
from macbind.http import within
from macbind.http.operation import Asked, Change, Operation, Question
from macbind.http.queries import ListQuery, WaitQuery, criteria
from macbind.http.schemas import (
    AllocateBody,
    LabelBody,
    Nothing,
    ReleaseBody,
    ReleaseLabelledBody,
    RemarkBody,
    ReserveBody,
    UnreserveQuery,
)
from macbind.service.addresses import Addresses
from macbind.service.awaiting import Awaiting
from macbind.service.waiting import Deadline


def operations(addresses: Addresses, awaiting: Awaiting) -> list[Operation]:
    """The operations, those first that machines wait for."""

    async def allocate(asked: Asked[AllocateBody], deadline: Deadline) -> Page:
        body = asked.given
        made = await addresses.allocate(
            body.wanted(asked.key),
            asked.origin,
            deadline,
            dry_run=body.dry_run,
            confirm=body.confirm,
        )
        return Page(made)

    async def release(asked: Asked[ReleaseBody], deadline: Deadline) -> Released:
        body = asked.given
        body.check()
        return await addresses.release(
            asked.origin,
            deadline,
            name=body.name,
            group=body.group,
            address=body.address,
            generation=body.generation,
            dry_run=body.dry_run,
        )

    async def reserve(asked: Asked[ReserveBody], deadline: Deadline) -> Allocation:
        body = asked.given
        return await addresses.reserve(
            body.name,
            body.address,
            asked.origin,
            deadline,
            mac=body.mac,
            options=body.options,
            labels=body.labels,
            dry_run=body.dry_run,
        )

    async def label(asked: Asked[LabelBody], _: Deadline) -> Allocation:
        body = asked.given
        return await addresses.label(body.name, body.labels, body.remove, asked.origin)

    async def remark(asked: Asked[RemarkBody], _: Deadline) -> Allocation:
        return await addresses.remark(asked.given.name, asked.origin)

    async def release_labelled(asked: Asked[ReleaseLabelledBody], deadline: Deadline) -> list[BulkItem]:
        body = asked.given
        return await addresses.release_labelled(asked.origin, deadline, body.labels, pool=body.pool)

    async def unreserve(asked: Asked[UnreserveQuery], deadline: Deadline) -> Released:
        name, dry_run = check_name(asked.name), asked.given.dry_run
        return await addresses.release(asked.origin, deadline, name=name, pinned=True, dry_run=dry_run)

    async def wait(asked: Asked[WaitQuery], deadline: Deadline) -> list[str]:
        given = asked.given
        if asked.peer.pools is not None:
            for one in await asyncio.to_thread(addresses.named, [name for name, _ in given.meant()]):
                within.allocation(one, asked)
        return await awaiting.wait(given.meant(), given.until, deadline, is_any=given.any)

    def page(asked: Asked[ListQuery]) -> Page:
        return addresses.page(**criteria(asked.given))

    def get(asked: Asked[Nothing]) -> Allocation:
        return addresses.get(asked.name)

    def settings(asked: Asked[Nothing]) -> NetworkSettings:
        if asked.peer.pools is not None:
            within.allocation(addresses.get(asked.name), asked)
        return addresses.network_settings(asked.name)

    return [
        Change("POST", "/v1/allocations", "Allocate one or several", AllocateBody, codec.PAGE, allocate),
        Change(
            "POST", "/v1/release", "Release by name, group or address", ReleaseBody, codec.RELEASED, release
        ),
        Change(
            "POST",
            "/v1/release/labelled",
            "Release all that have labels, with an answer for each",
            ReleaseLabelledBody,
            codec.BULK,
            release_labelled,
        ),
        Change(
            "POST", "/v1/remarks", "Write a reason into the audit log", RemarkBody, codec.ALLOCATION, remark
        ),
        Change("POST", "/v1/labels", "Change labels", LabelBody, codec.ALLOCATION, label),
        Question("/v1/allocations", "List, in pages", ListQuery, codec.PAGE, page, within=within.page),
        Question(
            "/v1/allocations/{name:path}",
            "One allocation",
            Nothing,
            codec.ALLOCATION,
            get,
            within=within.allocation,
        ),
        Change(
            "GET", "/v1/wait", "Wait until names are bound, are free, or answer", WaitQuery, codec.NAMES, wait
        ),
        Change("POST", "/v1/reservations", "Reserve an address", ReserveBody, codec.ALLOCATION, reserve),
        Change(
            "DELETE",
            "/v1/reservations/{name:path}",
            "End a reservation",
            UnreserveQuery,
            codec.RELEASED,
            unreserve,
        ),
        Question(
            "/v1/network-settings/{name:path}",
            "What a machine needs to know of its network: mask, gateway, DNS …",
            Nothing,
            codec.NETWORK_SETTINGS,
            settings,
            within=within.itself,
        ),
    ]
