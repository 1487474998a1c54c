"""The operations of imports, and of what is recovered."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from macbind.client import codec
from macbind.core.dhcp_options import NO_OPTIONS
from macbind.core.import_plan import MAX_ENTRIES, ImportEntry, ImportPlan
from macbind.http.operation import Asked, Change, Operation
from macbind.http.schemas import ChangeParameters, GivenLabels, Options, Parameters, Plain
from macbind.service.imports import Imports
from macbind.service.waiting import Deadline

_MAX_LINE = (1 << 31) - 1
Words = Annotated[list[Plain], Field(max_length=64)]


class EntryBody(Parameters):
    """A machine of a list. Name, address and MAC are texts, so that each mistake is a row of the plan."""

    name: Plain
    addresses: Words = Field(default_factory=list, description="the one in the subnet of a pool counts")
    mac: Plain | None = Field(default=None, description="null for the MAC that the pool makes of the address")
    line: Annotated[int, Strict()] = Field(
        default=0, ge=0, le=_MAX_LINE, description="where it stands in the list"
    )
    file: Plain | None = None
    options: Options = NO_OPTIONS
    labels: GivenLabels = Field(default_factory=dict)
    group: Plain | None = None
    pinned: bool = Field(default=True, strict=True, description="a reservation; else an allocation")
    problem: Plain = Field(default="", description="why it cannot be imported; empty if it can")
    mend: Plain = Field(default="", description="how to mend that")
    left_out: Words = Field(
        default_factory=list, description="what no reservation can have; the answer repeats it"
    )

    def entry(self) -> ImportEntry:
        """The same as a value."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return ImportEntry(**values | {"addresses": tuple(self.addresses), "left_out": tuple(self.left_out)})


class ImportBody(ChangeParameters):
    """What is to be imported, and how."""

    entries: Annotated[list[EntryBody], Field(max_length=MAX_ENTRIES, fail_fast=True)]
    apply: bool = Field(default=False, strict=True, description="do it; else only the plan is answered")
    skip_conflicts: bool = Field(
        default=False,
        strict=True,
        description="do it although an entry is in conflict or impossible; these are left out",
    )


class RecoveryBody(ChangeParameters):
    """How what is seen is to be recovered."""

    apply: bool = Field(default=False, strict=True, description="do it; else only the plan is answered")
    skip_conflicts: bool = Field(
        default=False,
        strict=True,
        description="do it although one is in conflict or impossible; these are left out",
    )


def operations(imports: Imports) -> list[Operation]:
    """The operations."""

    async def make(asked: Asked[ImportBody], deadline: Deadline) -> ImportPlan:
        body = asked.given
        return await imports.make(
            [one.entry() for one in body.entries],
            asked.origin,
            deadline,
            apply=body.apply,
            skip_conflicts=body.skip_conflicts,
        )

    async def recover(asked: Asked[RecoveryBody], deadline: Deadline) -> ImportPlan:
        body = asked.given
        return await imports.recover(
            asked.origin, deadline, apply=body.apply, skip_conflicts=body.skip_conflicts
        )

    summary = "Allocate again what is seen and the registry does not know"
    return [
        Change("POST", "/v1/import", "Import a list of machines", ImportBody, codec.IMPORT, make),
        Change("POST", "/v1/recover", summary, RecoveryBody, codec.IMPORT, recover),
    ]
