"""What every call of a client needs: where the service is, and how its answers are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from macbind.client.answers import Answers
from macbind.client.places import NO_HEADERS, Service, given_service, places_of
from macbind.client.transport import Transport
from macbind.core.errors import InvalidRequest


class Caller:
    """Asks a service, and is closed in the end; :class:`~macbind.client.client.Client` says what is given."""

    def __init__(
        self,
        service: Service | None = None,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        timeout_s: float = 10.0,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.service = given_service(service)
        self._tls = {"token": token, "ca": ca, "certificate": certificate, "key": key}
        self.places = places_of(self.service, token=token, ca=ca, certificate=certificate, key=key)
        self.timeout_s = timeout_s
        self.reason, self.request_id = reason, request_id
        self._headers = NO_HEADERS if request_id is None else {"X-Request-ID": request_id}
        self._transport = Transport(self.places, timeout_s)
        self._answers = Answers(distrust=self._transport.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the next call would open another."""
        self._transport.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets a client of the same service, and no connection."""
        given = {"timeout_s": self.timeout_s, "reason": self.reason, "request_id": self.request_id}
        return _caller, (type(self), self.service, self._tls | given)

    def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self._transport.call("GET", path, params=params)

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        *,
        may_repeat: bool = True,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Any:
        filled, sent = self._completed(body), {**self._headers, **headers}
        return self._transport.call("POST", path, body=filled, may_repeat=may_repeat, headers=sent)

    def _completed(self, given: dict[str, Any]) -> dict[str, Any]:
        """What a change is given, without what is left out, and with what this client gives to all."""
        mine = {"reason": self.reason, "timeout_s": self.timeout_s}
        every = mine | {key: value for key, value in given.items() if value is not None}
        return {key: value for key, value in every.items() if value is not None and value != {}}


def _caller(kind: type[Caller], service: Service, given: dict[str, Any]) -> Caller:
    return kind(service, **given)


def rehearsal(dry_run: bool) -> dict[str, Any]:
    """What a request says of a dry run; nothing where it is none, so that an older service takes it, too."""
    return {"dry_run": True} if dry_run else {}


def segment(name: str) -> str:
    """A name as one segment of a path, slashes included.

    Raises:
        InvalidRequest: It is no Unicode text.
    """
    try:
        return quote(name, safe="")
    except UnicodeError:
        raise InvalidRequest(
            f"{name!r} cannot be a name.", hint="Use letters and digits; it is no Unicode text."
        ) from None
