"""Why an address is released, as one of few words: for numbers. The audit log has the reason in its own words."""

from __future__ import annotations

from enum import StrEnum


class ReleaseCause(StrEnum):
    """What a release is due to."""

    ASKED = "asked"
    """Somebody asked for it: by the API, a command, or by destroying a machine through macbind."""
    ENDED = "ended"
    """libvirt has shown that the machine ended."""
    UNCLAIMED = "unclaimed"
    """No machine appeared for it in time."""
    EXPIRED = "expired"
    """Its time was over."""
    RENUMBERED = "renumbered"
    """Its name has another address now."""
    WITHDRAWN = "withdrawn"
    """It was taken back: a DHCP server or the network refused it, or a renumbering was given up."""
    ELSEWHERE = "elsewhere"
    """Another controller released it, or this one before its last start."""
