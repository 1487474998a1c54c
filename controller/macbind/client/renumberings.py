"""The calls of renumberings."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

from macbind.client import codec
from macbind.client.caller import Caller
from macbind.core.address_range import parse_address
from macbind.core.allocation import Released, Renumbering


class RenumberingCalls(Caller):
    """Gives a name another address, in two steps that can be taken back."""

    def begin_renumber(
        self,
        name: str,
        to: IPv4Address | str,
        *,
        lease_s: float = 60.0,
        token: str | None = None,
        reason: str | None = None,
    ) -> Renumbering:
        """Takes a name's new address; when this returns, the machine may be given its MAC.

        The name has both addresses until :meth:`finish_renumber` or :meth:`abort_renumber`. Meanwhile a lease
        keeps others away (``Conflict``); the same call with its token prolongs it. To renumber a machine with
        everything that belongs to it, see :func:`macbind.machines.renumber`.

        Args:
            name: The name.
            to: An address of its pool, or of another pool on the same network.
            lease_s: How long the lease lives. Some time after that, macbind ends the renumbering by itself: by the
                MAC the machine has then.
            token: The lease's token, any random text; made if left out.
            reason: Why, for the audit log.

        Returns:
            The renumbering with its token; with one allocation twice if the name has the address already.
        """
        token = secrets.token_urlsafe(16) if token is None else token
        target = parse_address(str(to))
        body = {"name": name, "to": str(target), "token": token, "lease_s": lease_s, "reason": reason}
        begun = self._renumbering("/v1/renumberings", name, body, token)
        self._answers.check([begun.new], address=target)
        return begun

    def lease_renumber(self, name: str, token: str, *, lease_s: float = 60.0) -> Renumbering:
        """Prolongs the lease of a renumbering under way, or takes it over when it has expired.

        Args:
            name: The name.
            token: The lease's token; of an expired lease, its next one.
            lease_s: How long the lease lives from now on.

        Raises:
            Conflict: Another token holds it, or there is no such renumbering any more.
        """
        body = {"name": name, "token": token, "lease_s": lease_s}
        return self._renumbering("/v1/renumberings/lease", name, body, token)

    def finish_renumber(
        self, name: str, token: str | None = None, *, reason: str | None = None
    ) -> Renumbering:
        """Releases the old address; when this returns, it can be allocated again.

        Args:
            name: The name.
            token: The lease's token; may be left out when the lease has expired.
            reason: Why, for the audit log.
        """
        body = {"name": name, "token": token, "reason": reason}
        return self._renumbering("/v1/renumberings/finish", name, body, token)

    def abort_renumber(self, name: str, token: str | None = None, *, reason: str | None = None) -> Released:
        """Releases the new address; the name keeps the one it has.

        Args:
            name: The name.
            token: The lease's token; may be left out when the lease has expired.
            reason: Why, for the audit log.
        """
        body = {"name": name, "token": token, "reason": reason}
        done = self._answers.read(
            codec.RELEASED, self._post("/v1/renumberings/abort", body, may_repeat=token is not None)
        )
        self._answers.check(done.allocations, name=name)
        return done

    def _renumbering(self, path: str, name: str, body: dict[str, Any], token: str | None) -> Renumbering:
        found = self._answers.read(codec.RENUMBERING, self._post(path, body, may_repeat=token is not None))
        self._answers.check([found.old, found.new], name=name)
        if found.token is not None:
            self._answers.check([found], token=token)
        return found

    def renumberings(self) -> Sequence[Renumbering]:
        """The renumberings under way, without their tokens."""
        return self._answers.read(codec.RENUMBERINGS, self._get("/v1/renumberings"))
