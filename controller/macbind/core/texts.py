"""Texts by their keys, that never change: the value of a DHCP option that is a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn


class Texts(dict[str, str]):
    """A mapping from text to text that can be hashed and not be changed, in the order of its keys."""

    __slots__ = ()

    def __init__(self, items: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(sorted(dict(items).items()))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("options cannot be changed; make new ones")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = _refuse
    pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[type[Texts], tuple[dict[str, str]]]:
        return Texts, (dict(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Tells pydantic to read and write an object of texts."""
        from pydantic_core import core_schema as cs

        return cs.no_info_after_validator_function(cls, cs.dict_schema(cs.str_schema(), cs.str_schema()))


TextMap = Annotated[Mapping[str, str], Texts]
"""Any mapping of texts that is given; what is kept of it is :class:`Texts`."""
