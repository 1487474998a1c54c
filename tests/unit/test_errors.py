"""Errors keep what they say on their way through the HTTP API."""

import json
import pickle

import pytest

from macbind.core import errors
from macbind.core.errors import (
    ConfigError,
    InvariantViolation,
    MacbindError,
    PeerError,
    PoolExhausted,
    RequestError,
    ServiceUnavailable,
)


def tree(root: type[MacbindError] = MacbindError) -> list[type[MacbindError]]:
    """Every error class below one."""
    return [found for child in root.__subclasses__() for found in (child, *tree(child))]


@pytest.mark.parametrize("kind", tree())
def test_an_error_survives_the_journey_to_the_client(kind: type[MacbindError]) -> None:
    """The client raises the same class with the same message, hint and details, through JSON."""
    error = kind("The pool 'farm' is full.", hint="Widen it.", pool="farm", asked=3)
    back = MacbindError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(back) is kind
    assert back.message == "The pool 'farm' is full."
    assert back.hint == "Widen it."
    assert back.details == {"pool": "farm", "asked": 3}
    assert back.to_dict() == error.to_dict()


@pytest.mark.parametrize("kind", tree())
def test_an_error_can_be_pickled(kind: type[MacbindError]) -> None:
    """An error crosses a process boundary whole."""
    error = kind("It broke.", hint="Mend it.", where="here")
    assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()  # noqa: S301 - our own bytes


def test_codes_are_unique() -> None:
    """A program can tell every class by its code alone."""
    codes = [kind.code for kind in tree()]
    assert len(codes) == len(set(codes))
    assert MacbindError.code not in codes


def test_every_class_is_in_the_drawing() -> None:
    """The tree at the top of the module names every class there is."""
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in tree() if kind.__name__ not in errors.__doc__] == []


def test_every_error_has_an_owner() -> None:
    """Each error is the configuration's, the caller's, a peer's or our own fault, and only one of these."""
    owners = (ConfigError, RequestError, PeerError, InvariantViolation)
    assert all(sum(issubclass(kind, owner) for owner in owners) == 1 for kind in tree())


@pytest.mark.parametrize(
    "data", [{"code": "from_the_future", "message": "Hm."}, {"code": None}, {"code": 7}, {}]
)
def test_an_unknown_code_is_a_service_we_do_not_understand(data: dict[str, object]) -> None:
    """A newer service's error becomes ServiceUnavailable and is shown in full."""
    back = MacbindError.from_dict(data)
    assert type(back) is ServiceUnavailable
    assert repr(data) in back.message
    assert "same version" in back.hint


def test_missing_parts_read_as_empty() -> None:
    """An error without message, hint or details is still that error."""
    back = MacbindError.from_dict({"code": "pool_exhausted", "hint": "", "details": None})
    assert type(back) is PoolExhausted
    assert (back.message, back.hint, back.details) == ("", "", {})


def test_details_may_have_any_name() -> None:
    """Details called like the error's own parts do not confuse the client."""
    details = {"message": "a", "hint": "b", "self": "c", "code": "d"}
    back = MacbindError.from_dict({"code": "conflict", "message": "m", "hint": "h", "details": details})
    assert (back.message, back.hint, back.details) == ("m", "h", details)


def test_an_error_prints_as_message_and_hint() -> None:
    """What a person sees is the message and, if there is one, the hint."""
    assert str(PoolExhausted("It is full.")) == "It is full."
    assert str(PoolExhausted("It is full.", hint="Widen it.")) == "It is full. Widen it."
