"""Statements that run in every request: written with SQLAlchemy, compiled once, and handed to the driver.

Executing one row's statement through SQLAlchemy takes longer than SQLite needs for it, and a request consists of a
dozen. What is left out here is only what such a statement does not need: a search for its compiled form, and rows
that know how they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler

Parameters = Mapping[str, Any]
_Process = Callable[[Any], Any]


def execute(
    db: Connection, text: str, values: Any = (), *, each: bool = False
) -> tuple[list[tuple[Any, ...]], Sequence[Any]]:
    """Has the driver execute a text in the transaction of a connection.

    Args:
        db: The connection.
        text: In the driver's own style.
        values: The parameters; with ``each`` a list of them.
        each: Whether it is executed once for each of them.

    Returns:
        The rows, and the driver's description of their columns; both are empty if it has none.
    """
    cursor: Any = None
    try:
        cursor = db.connection.cursor()
        if each:
            cursor.executemany(text, values)
        else:
            cursor.execute(text, values)
        if cursor.description is None:
            return [], ()
        return cursor.fetchall(), cursor.description  # SQLite looks for them only now, and may fail
    except db.dialect.loaded_dbapi.Error as error:
        lost = db.dialect.is_disconnect(error, db.connection.driver_connection, cursor)
        if lost:
            db.invalidate(error)
        raise DBAPIError.instance(
            text, values, error, db.dialect.loaded_dbapi.Error, connection_invalidated=lost, ismulti=each
        ) from error


@dataclass(slots=True)
class _Compiled:
    """A statement for one kind of database, and for lists of certain lengths."""

    text: str
    names: Sequence[str]
    """Of its parameters, in their order."""
    by_name: bool
    """Whether the driver takes them by their names."""
    fixed: Mapping[str, Any]
    """The values of those that are the same each time."""
    lists: Mapping[str, Sequence[str]]
    """The names that stand for the elements of each list."""
    ingoing: Sequence[tuple[str, _Process]]
    columns: Sequence[ColumnElement[Any]]
    row: _Process
    _outgoing: list[tuple[int, _Process]] | None = field(default=None, init=False)

    def bind(self, parameters: Parameters) -> Any:
        """The parameters as the driver wants them."""
        values = {**self.fixed, **parameters}
        for name, places in self.lists.items():
            items = parameters[name]
            values.update(zip(places, items, strict=False))
            values.update((place, items[-1]) for place in places[len(items) :])
        for name, process in self.ingoing:
            values[name] = process(values[name])
        if self.by_name:
            return {name: values[name] for name in self.names}
        return [values[name] for name in self.names]

    def rows(self, found: list[tuple[Any, ...]], description: Sequence[Any], dialect: Dialect) -> list[Any]:
        """The rows with their columns' names, and values as the columns' types have them."""
        if self._outgoing is None:
            self._outgoing = [
                (index, process)
                for index, (column, (_, code, *_)) in enumerate(zip(self.columns, description, strict=True))
                if (process := column.type.dialect_impl(dialect).result_processor(dialect, code)) is not None
            ]
        if not self._outgoing:
            return [self.row(values) for values in found]
        made = []
        for values in map(list, found):
            for index, to_value in self._outgoing:
                values[index] = to_value(values[index])
            made.append(self.row(values))
        return made


class Statement:
    """A statement with all its variables as ``bindparam``, to be executed often.

    It runs in the transaction of the connection it is given, and fails with SQLAlchemy's exceptions.

    Args:
        clause: The statement. A list, for ``in_(bindparam(..., expanding=True))``, must not be empty.
        keys: Of an insert: the columns it gives values for.
    """

    def __init__(
        self, clause: Select[Any] | Insert | Update | Delete, *, keys: Sequence[str] | None = None
    ) -> None:
        self._clause, self._keys = clause, keys
        self._lists = [
            part.key
            for part in visitors.iterate(clause)
            if isinstance(part, BindParameter) and part.expanding
        ]
        self._compiled: dict[tuple[str, int], _Compiled] = {}

    def all(self, db: Connection, parameters: Parameters) -> list[Any]:
        """All rows, as named tuples."""
        compiled = self._for(db.dialect, parameters)
        return compiled.rows(*execute(db, compiled.text, compiled.bind(parameters)), db.dialect)

    def first(self, db: Connection, parameters: Parameters) -> Any:
        """The first row, or None."""
        return next(iter(self.all(db, parameters)), None)

    def run(self, db: Connection, parameters: Parameters) -> None:
        """Runs once."""
        self.run_each(db, [parameters])

    def run_each(self, db: Connection, many: Sequence[Parameters]) -> None:
        """Runs once for each of the parameters."""
        if not many:
            return
        compiled = self._for(db.dialect, many[0])
        if len(many) == 1:
            execute(db, compiled.text, compiled.bind(many[0]))
        else:
            execute(db, compiled.text, [compiled.bind(one) for one in many], each=True)

    def _for(self, dialect: Dialect, parameters: Parameters) -> _Compiled:
        """The compiled form; lists are made as long as a power of two, so that there are few of them."""
        length = max((len(parameters[name]) for name in self._lists), default=0)
        key = dialect.name, 1 << (length - 1).bit_length() if length else 0
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = self._compile(dialect, parameters, key[1])
        return found

    def _compile(self, dialect: Dialect, parameters: Parameters, length: int) -> _Compiled:
        compiled = self._clause.compile(dialect=dialect, column_keys=self._keys)
        assert isinstance(compiled, SQLCompiler)
        state = compiled.construct_expanded_state(
            {**parameters, **{name: [None] * length for name in self._lists}}
        )
        plain = {
            name: bind for bind, name in compiled.bind_names.items() if name not in state.parameter_expansion
        }
        processes = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in plain.items()
        }
        columns = list(self._clause.exported_columns)
        row: Any = NamedTuple("Row", [(column.key, Any) for column in columns])  # type: ignore[misc]
        places = [place for some in state.parameter_expansion.values() for place in some]
        return _Compiled(
            text=state.statement,
            names=state.positiontup or [*plain, *places],
            by_name=state.positiontup is None,
            fixed={name: bind.effective_value for name, bind in plain.items() if not bind.required},
            lists=state.parameter_expansion,
            ingoing=[(name, process) for name, process in processes.items() if process is not None],
            columns=columns,
            row=row._make,
        )
