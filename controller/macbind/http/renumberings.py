"""The operations of renumberings: begin, lease, finish, abort, and those under way."""

from __future__ import annotations

from macbind.client import codec
from macbind.core.allocation import Released, Renumbering
from macbind.http import within
from macbind.http.operation import Asked, Change, Operation, Question
from macbind.http.schemas import EndRenumberBody, LeaseRenumberBody, Nothing, RenumberBody
from macbind.service.renumbering import Renumberings
from macbind.service.waiting import Deadline


def operations(renumberings: Renumberings) -> list[Operation]:
    """The operations."""

    async def begin(asked: Asked[RenumberBody], deadline: Deadline) -> Renumbering:
        body = asked.given
        return await renumberings.begin(
            body.name, body.to, asked.origin, deadline, token=body.token, lease_s=body.lease_s
        )

    async def lease(asked: Asked[LeaseRenumberBody], _: Deadline) -> Renumbering:
        body = asked.given
        return await renumberings.lease(body.name, asked.origin, token=body.token, lease_s=body.lease_s)

    async def finish(asked: Asked[EndRenumberBody], deadline: Deadline) -> Renumbering:
        body = asked.given
        return await renumberings.finish(body.name, asked.origin, deadline, token=body.token)

    async def abort(asked: Asked[EndRenumberBody], deadline: Deadline) -> Released:
        body = asked.given
        return await renumberings.abort(body.name, asked.origin, deadline, token=body.token)

    return [
        Change(
            "POST",
            "/v1/renumberings",
            "Take another address for a name",
            RenumberBody,
            codec.RENUMBERING,
            begin,
        ),
        Change(
            "POST",
            "/v1/renumberings/lease",
            "Prolong the lease of a renumbering, or take it over",
            LeaseRenumberBody,
            codec.RENUMBERING,
            lease,
        ),
        Change(
            "POST",
            "/v1/renumberings/finish",
            "End a renumbering at the new address, and release the old one",
            EndRenumberBody,
            codec.RENUMBERING,
            finish,
        ),
        Change(
            "POST",
            "/v1/renumberings/abort",
            "End a renumbering at the old address, and release the new one",
            EndRenumberBody,
            codec.RELEASED,
            abort,
        ),
        Question(
            "/v1/renumberings",
            "The renumberings under way",
            Nothing,
            codec.RENUMBERINGS,
            lambda _: renumberings.under_way(),
            within=within.renumberings,
        ),
    ]
