"""Telling the service manager how we are (sd_notify(3)); does nothing when nobody listens."""

from __future__ import annotations

import os
import socket


def notify(**states: str | int) -> bool:
    """Sends states such as ``READY=1`` or ``STATUS=text``; False if no service manager was told.

    A lost message is no failure of ours, and never makes us wait: the manager's own timeouts judge.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    # A line break would begin another state.
    message = "\n".join(f"{name}={' '.join(str(value).splitlines())}" for name, value in states.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(message.encode(), socket.MSG_DONTWAIT, address)
        except OSError:
            return False
    return True
