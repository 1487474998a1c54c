"""What this controller's file has to do with the configuration that all controllers share."""

from __future__ import annotations

import socket
from dataclasses import replace

from macbind.config import Settings, load
from macbind.config.document import Document
from macbind.config.shared import shared_part, with_shared_part
from macbind.core.errors import ConfigError
from macbind.core.findings import Finding
from macbind.core.shared_configuration import Recorded, SharedConfiguration, in_words
from macbind.registry.configuration import Offer

_AT_HOME = ("registry", "service", "metrics", "page", "api", "names")
"""Tables that stay as they are when another controller's change is read."""


def offer(settings: Settings, *, meant_by: str | None = None) -> Offer:
    """A configuration that this controller would use.

    Args:
        settings: The configuration.
        meant_by: Who wants all controllers to use it; None if they are to be asked.
    """
    shared = shared_part(settings, socket.gethostname())
    return Offer(shared, meant_by or "macbind", is_meant=meant_by is not None)


def brought_home(shared: SharedConfiguration, own: Document) -> Settings:
    """The configuration of this machine with what all controllers share.

    Raises:
        ConfigError: It cannot be used on this machine.
    """
    return with_shared_part(own, shared, socket.gethostname())


def own_part(used: Settings) -> Document:
    """The file of this machine as it is now, where it can be read, without what only :meth:`load` may change."""
    try:
        found = Document.read(used.document.path)
        found.tables()
    except ConfigError:
        return used.document
    mine = used.document.values
    kinds = (found.values.keys() | mine.keys()).difference(_AT_HOME)
    # A table that the file does not have any more is needed for as long as the record has it.
    values = {kind: {**mine.get(kind, {}), **found.values.get(kind, {})} for kind in kinds}
    return replace(found, values=values | {kind: mine[kind] for kind in _AT_HOME if kind in mine})


def outdated_file(used: Settings, recorded: Recorded | None) -> Finding | None:
    """The finding that the file says otherwise than what is recorded, if it does and that was meant."""
    if recorded is None or not recorded.is_applied:
        return None
    path = used.document.path
    try:
        differences = offer(load(path)).shared.differences(recorded.shared)
    except ConfigError as error:
        return _outdated(path, error.message)
    return _outdated(path, f"{in_words(differences)}.") if differences else None


def _outdated(path: object, how: str) -> Finding:
    return Finding(
        "config_outdated",
        f"{path} is not what all controllers use since `macbind config apply`. {how}",
        "Make the file equal to what `macbind config show` prints, and reload macbind.",
        str(path),
    )
