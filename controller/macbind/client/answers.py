"""Reads the service's answers, and compares them with the question. Nothing unchecked becomes a machine's address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from macbind.core.allocation import Allocation
from macbind.core.errors import MacbindError, ServiceUnavailable
from macbind.core.labels import Wanted, match

_T = TypeVar("_T")


class Answers:
    """Lets through what answers the question.

    Args:
        distrust: Called when something else came, e.g. to close the connections.
    """

    def __init__(self, distrust: Callable[[], object]) -> None:
        self._distrust = distrust

    def read(self, adapter: TypeAdapter[_T], data: Any) -> _T:
        """A value of the answer's JSON.

        Raises:
            ServiceUnavailable: It is not what this client understands.
        """
        try:
            return adapter.validate_python(data)
        except (
            ValidationError,
            MacbindError,
        ) as error:  # our own types say what is wrong with them themselves
            what = (
                error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.message.rstrip(".")
            )
            raise ServiceUnavailable(
                f"The service's answer is not what this client understands: {what}.",
                hint="Use a client of the same version as the service.",
            ) from error

    def check(self, found: Iterable[object], **asked: object) -> None:
        """Compares what was found with what was asked for.

        Args:
            found: Allocations, or other values with these attributes.
            asked: What each of them must have; None for what does not matter.

        Raises:
            ServiceUnavailable: The answer is for another question.
        """
        facts = {key: value for key, value in asked.items() if value is not None}
        for one in found:
            for key, value in facts.items():
                if (answered := getattr(one, key)) != value:
                    raise self.mismatch(f"the {key} '{answered}'", f"'{value}'")

    def check_names(self, found: Sequence[Allocation], names: Sequence[str]) -> None:
        """Compares the names of an answer with those asked for, in their order.

        Raises:
            ServiceUnavailable: The answer is for another question.
        """
        for one, name in zip(found, names, strict=False):
            self.check([one], name=name)
        if len(found) != len(names):
            raise self.mismatch(f"{len(found)} allocations", str(len(names)))

    def check_labels(self, found: Iterable[Allocation], labels: Wanted) -> None:
        """Compares the labels of what was found with those asked for.

        Raises:
            ServiceUnavailable: The answer is for another question.
        """
        for one in found:
            if not match(one.labels, labels):
                raise self.mismatch(f"the labels {one.labels}", f"{dict(labels)}")

    def mismatch(self, answered: str, asked: str) -> ServiceUnavailable:
        """The error of an answer to another question."""
        self._distrust()
        return ServiceUnavailable(
            f"The macbind service answered with {answered}, and {asked} was asked for.",
            hint="Nothing of that answer was used. Look what is there before you repeat the call.",
        )
