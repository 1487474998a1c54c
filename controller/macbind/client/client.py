"""The Python API: what the program that runs the farm calls.

::

    with macbind.Client() as client:
        vm = client.allocate("farm", "build-7")   # dhcpd has confirmed: start the machine with vm.mac
        ...
        client.release("build-7")                 # gone from dhcpd: the address is free again

Values and exceptions are the ones the service itself uses. Every call may be repeated: the same name finds
the same allocation, and releasing what is gone succeeds and says so. Every answer is compared with its question.
"""

from __future__ import annotations

from macbind.client.administration import AdministrationCalls
from macbind.client.changes import ChangeCalls
from macbind.client.questions import QuestionCalls
from macbind.client.renumberings import RenumberingCalls
from macbind.client.waiting import WaitingCalls


class Client(ChangeCalls, RenumberingCalls, QuestionCalls, WaitingCalls, AdministrationCalls):
    """A connection to the macbind service.

    It may be used by several threads, after a fork in both processes, and be sent to another process.

    Args:
        service: The service's Unix socket, or its URL on another host as https://HOST:8443, or several of them: with
            commas between them, or as a list. By default $MACBIND_SOCKET, $MACBIND_SERVICE or
            /run/macbind/macbind.sock. Several are services of one registry; while one answers, calls succeed.
        token: Who asks, for services on other hosts; by default $MACBIND_TOKEN.
        ca: A file with the CA of their certificates; by default $MACBIND_CA, or those that the system trusts.
        certificate: A file with a client certificate, instead of a token; by default $MACBIND_CERTIFICATE.
        key: A file with its key, if that is another one; by default $MACBIND_KEY.
        timeout_s: How long a change may wait for dhcpd, in seconds.
        reason: Why, for the audit log: of every change that has no reason of its own.
        request_id: What all its changes have in common in the audit log, at most 64 printable characters; without
            it the service gives an id to each call.
    """
