"""Where allocations are found by name: what the keys of ``[names]`` mean together."""

from __future__ import annotations

from macbind.config.document import Document
from macbind.config.tables import NamesSettings


def check_names(document: Document, names: NamesSettings) -> None:
    """Refuses names without a domain, and keys of a name server where there is none.

    Raises:
        ConfigError: It is one of these.
    """
    for key in ("hosts_file", "server"):
        if getattr(names, key) is not None and names.domain is None:
            raise document.error(
                ("names", key),
                f"[names] {key}: The names have no domain.",
                'Write a domain of your own, such as domain = "farm.example.org".',
            )
    for key in ("zone", "reverse_zones"):
        if getattr(names, key) and names.server is None:
            raise document.error(
                ("names", key),
                f"[names] {key}: There is no name server.",
                'Name one, as server = "127.0.0.1:53", or leave this out.',
            )
    zone, domain = names.zone, names.domain
    if zone is not None and domain is not None and not f".{domain}".endswith(f".{zone}"):
        raise document.error(
            ("names", "zone"),
            f"[names] zone: The domain {domain} is not in the zone {zone}.",
            "Name the zone that has the domain.",
        )
