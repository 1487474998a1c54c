"""The operations of DHCP servers: which are in, and taking one out or in."""

from __future__ import annotations

from pydantic import Field

from macbind.client import codec
from macbind.core.dhcp_servers import Server
from macbind.http.configurations import check_is_ours
from macbind.http.operation import Asked, Change, Operation, Question
from macbind.http.schemas import ChangeParameters, Nothing, Plain
from macbind.service.dhcp_servers import DhcpServers
from macbind.service.waiting import Deadline


class InBody(ChangeParameters):
    """A DHCP server."""

    name: Plain


class OutBody(InBody):
    """A DHCP server, and whether it is gone for good."""

    forget: bool = Field(default=False, strict=True, description="what it holds is free without it, too")


def operations(servers: DhcpServers) -> list[Operation]:
    """The operations."""

    async def out(asked: Asked[OutBody], _: Deadline) -> Server:
        check_is_ours(asked.peer)
        return await servers.out(asked.given.name, asked.origin, forget=asked.given.forget)

    async def in_(asked: Asked[InBody], _: Deadline) -> Server:
        check_is_ours(asked.peer)
        return await servers.in_(asked.given.name, asked.origin)

    return [
        Question(
            "/v1/dhcp", "The DHCP servers, and which are in", Nothing, codec.SERVERS, lambda _: servers.all()
        ),
        Change(
            "POST", "/v1/dhcp/out", "Take a DHCP server out: nobody waits for it", OutBody, codec.SERVER, out
        ),
        Change("POST", "/v1/dhcp/in", "Take a DHCP server in again", InBody, codec.SERVER, in_),
    ]
