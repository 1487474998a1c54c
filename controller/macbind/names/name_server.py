"""A name server that takes updates (RFC 2136), signed with a key (TSIG, RFC 8945).

A zone is read by a transfer. An update says in its prerequisites what was found there, so it happens only if nobody
has changed the same names meanwhile. So no record of others is ever replaced or removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import dns.xfr
import dns.zone

from macbind.core.findings import Finding
from macbind.core.listen_address import ListenAddress
from macbind.core.name_records import Change, Found, mark
from macbind.names.trouble import Contested, Trouble

PIECE = 100
"""Names that one update changes."""
TIMEOUT_S = 3.0
"""How long one answer may take."""
TRANSFER_S = 60.0
_MADE_BY_SERVER = frozenset({dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.NSEC3})
_PREREQUISITES = (dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN)


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A key that signs what is asked of a name server.

    Attributes:
        name: The name that the server knows it by.
        algorithm: ``hmac-`` and a digest.
        secret: The raw secret; in no ``repr``.
    """

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone in which records are kept.

    Attributes:
        name: Its name.
        kind: The type of the records: A, or PTR in a reverse zone.
    """

    name: str
    kind: str


class NameServer:
    """The server. Used by one thread.

    Args:
        at: Its address.
        key: Signs all that is asked.
        owner: Whose records are ours.
        ttl_s: How long others may remember a record, in seconds.
        goes_on: Called after each answer.

    Attributes:
        owner: Whose records are ours.
    """

    def __init__(
        self,
        at: ListenAddress,
        key: TsigKey,
        owner: str,
        ttl_s: int,
        goes_on: Callable[[], object] = lambda: None,
    ) -> None:
        self._at, self.owner, self._ttl_s, self._goes_on = at, owner, ttl_s, goes_on
        name = dns.name.from_text(key.name)
        algorithm = "hmac-md5.sig-alg.reg.int" if key.algorithm == "hmac-md5" else key.algorithm
        self._signs = dns.tsig.Key(name, key.secret, dns.name.from_text(algorithm))

    def names(self, zone: Zone) -> dict[str, Found]:
        """All that a zone has, by name.

        Raises:
            Trouble: The server does not answer, or refuses.
        """
        found = dns.zone.Zone(dns.name.from_text(zone.name), relativize=False)
        with self._translated(zone, "transfer"):
            query, _ = dns.xfr.make_query(found, keyring=self._signs)
            dns.query.inbound_xfr(str(self._at.address), found, query, self._at.port, TIMEOUT_S, TRANSFER_S)
        self._goes_on()
        kind = dns.rdatatype.from_text(zone.kind)
        return {
            name.to_text().lower(): Found(
                frozenset(_texts(node, kind)),
                frozenset(_texts(node, dns.rdatatype.TXT)),
            )
            for name, node in found.nodes.items()
            if any(one.rdtype not in _MADE_BY_SERVER for one in node)
        }

    def change(self, zone: Zone, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """Makes changes, some at a time: each message happens as a whole or not at all. Yields what was made.

        Raises:
            Contested: Somebody else has changed the same names.
            Trouble: The server does not answer, or refuses.
        """
        for begin in range(0, len(changes), PIECE):
            some = changes[begin : begin + PIECE]
            message = dns.update.UpdateMessage(zone.name, keyring=self._signs)
            for one in some:
                self._add(message, zone, one)
            with self._translated(zone, "update"):
                answer = dns.query.tcp(message, str(self._at.address), TIMEOUT_S, self._at.port)
            self._goes_on()
            if answer.rcode() in _PREREQUISITES:
                raise Contested(
                    Finding(
                        "names_contested",
                        f"The name server {self._at} has other records in the zone {zone.name} than a moment ago: "
                        "somebody else changes the same names.",
                        "Give each registry an owner of its own in [names].",
                        zone.name,
                    )
                )
            if answer.rcode() != dns.rcode.NOERROR:
                raise self._refused(zone, "update", dns.rcode.to_text(answer.rcode()))
            yield some

    def _add(self, message: dns.update.UpdateMessage, zone: Zone, one: Change) -> None:
        name = dns.name.from_text(one.name)
        if one.old:
            message.present(name, "TXT", *one.texts)  # it has to be all of them
        else:
            message.absent(name)
        for record in one.old:
            message.delete(name, zone.kind, record)
            message.delete(name, "TXT", mark(self.owner, record))
        if one.new is not None:
            message.add(name, self._ttl_s, zone.kind, one.new)
            message.add(name, self._ttl_s, "TXT", mark(self.owner, one.new))

    @contextmanager
    def _translated(self, zone: Zone, what: str) -> Iterator[None]:
        try:
            yield
        except dns.xfr.TransferError as error:
            raise self._refused(zone, what, dns.rcode.to_text(error.rcode)) from error
        except (dns.tsig.PeerError, dns.tsig.BadTime, dns.tsig.BadKey, dns.tsig.BadSignature) as error:
            raise self._refused(zone, what, str(error).rstrip(".")) from error
        except (dns.message.UnknownTSIGKey, dns.tsig.BadAlgorithm) as error:
            raise self._refused(zone, what, str(error).rstrip(".")) from error
        except (OSError, EOFError, dns.exception.Timeout) as error:
            why = (isinstance(error, OSError) and error.strerror) or "no answer"
            raise Trouble(
                Finding(
                    "names_unavailable",
                    f"The name server {self._at} cannot be reached: {why}. Names there are not up to date.",
                    "Start it, or correct server in [names]. To one on another machine, open the way with "
                    "IPAddressAllow= in a drop-in.",
                    str(self._at),
                )
            ) from error
        except dns.exception.DNSException as error:
            raise self._refused(
                zone, what, f"it sent what is not understood ({type(error).__name__})"
            ) from error

    def _refused(self, zone: Zone, what: str, why: str) -> Trouble:
        return Trouble(
            Finding(
                "names_refused",
                f"The name server {self._at} refuses the {what} of the zone {zone.name}: {why}.",
                f"Let macbind's key do it there: allow-transfer and update-policy of the zone {zone.name} have to "
                "name the key. Secrets and clocks have to agree, too.",
                zone.name,
            )
        )


def _texts(node: Iterable[dns.rdataset.Rdataset], kind: dns.rdatatype.RdataType) -> Iterator[str]:
    for some in node:
        if some.rdtype == kind:
            for one in some:
                yield one.to_text() if kind == dns.rdatatype.TXT else one.to_text().lower()
