"""The operations of the configuration that all controllers share."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field

from macbind.client import codec
from macbind.core.errors import NotPermitted
from macbind.core.shared_configuration import Recorded, SharedConfiguration
from macbind.http.access import Peer
from macbind.http.operation import Asked, Change, Operation, Question
from macbind.http.schemas import ChangeParameters, Nothing
from macbind.service.configurations import Configurations
from macbind.service.waiting import Deadline


class ConfigurationBody(ChangeParameters):
    """A configuration for all controllers."""

    tables: dict[str, dict[str, dict[str, Any]]] = Field(
        description="values by kind of table, name and key, as GET /v1/configuration has them"
    )


def check_is_ours(peer: Peer) -> None:
    """Lets root and the service's own user pass.

    Raises:
        NotPermitted: It is another one.
    """
    if peer.uid not in (0, os.geteuid()):
        raise NotPermitted(
            f"{peer} may not change the configuration of all controllers.",
            hint="Ask as root on the service's host.",
        )


def operations(configurations: Configurations) -> list[Operation]:
    """The operations."""

    async def apply(asked: Asked[ConfigurationBody], _: Deadline) -> Recorded:
        check_is_ours(asked.peer)
        return await configurations.apply(SharedConfiguration(asked.given.tables), asked.origin)

    return [
        Question(
            "/v1/configuration",
            "The configuration that all controllers share",
            Nothing,
            codec.CONFIGURATION,
            lambda _: configurations.in_use(),
        ),
        Change(
            "POST",
            "/v1/configuration",
            "Have all controllers use a configuration",
            ConfigurationBody,
            codec.CONFIGURATION,
            apply,
        ),
    ]
