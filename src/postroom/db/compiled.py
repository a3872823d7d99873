"""Compiled statements: SQLAlchemy makes the SQL once, and the database driver runs it.

They serve the queries that are made for every single email: there, compiling the statement each
time would take longer than running it.

A statement may hold one list of values, as in `id IN (…)`. SQL needs one placeholder for each
value, so a statement is compiled anew for each length of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Generic, TypeAlias, TypeVar

import sqlalchemy as sa
from attrs import define, field, frozen
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

T = TypeVar("T")
Insert: TypeAlias = sqlite.Insert | postgresql.Insert


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """Return an INSERT that can have an ON CONFLICT clause."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def greater(column: sa.ColumnElement[T], value: Any) -> sa.ColumnElement[T]:  # noqa: ANN401 - value or expression
    """Return the SQL expression for the greater of two values.

    The expression is a CASE, because the function is called `max` in SQLite and `greatest` in
    PostgreSQL.
    """
    return sa.case((column < value, value), else_=column)


Statement: TypeAlias = sa.Select[Any] | sa.Update
Build: TypeAlias = Callable[[int], Statement]
"""Makes the statement for a list of this length; the length is 0 if there is no list."""
Values: TypeAlias = Mapping[str, Any]
Convert: TypeAlias = Callable[[Any], Any]


def among(column: sa.ColumnElement[Any], size: int) -> sa.ColumnElement[bool]:
    """Return the condition `column IN (…)` for the statement's list, which has `size` values."""
    return column.in_([sa.bindparam(_place(n), type_=column.type) for n in range(size)])


def _place(number: int) -> str:
    return f"among_{number}"


@frozen
class _Text:
    """The SQL of a statement for one database system, and how to convert its values.

    `constants` are the values that the statement already holds. `order` are the names of the
    parameters in their order if the driver takes a sequence, None if it takes a mapping. `places`
    are the names of the parameters that stand for the list. `incoming` converts parameters from
    Python to the database by name, `outgoing` converts columns back by position.
    """

    sql: str
    constants: Values
    order: Sequence[str] | None
    places: Sequence[str]
    incoming: Sequence[tuple[str, Convert]]
    outgoing: Sequence[tuple[int, Convert]]

    def convert(self, values: Values) -> dict[str, Any]:
        """Return `values`, by parameter name, converted to the types that the driver expects."""
        converted = dict(values)
        for name, convert in self.incoming:
            if name in converted:
                converted[name] = convert(converted[name])
        return converted

    def order_values(self, *parts: Values) -> Any:  # noqa: ANN401 - the driver's
        """Return the constants and the converted values of `parts` as the driver expects them.

        That is a mapping or a list, depending on `order`.
        """
        values = dict(self.constants)
        for part in parts:
            values.update(part)
        return values if self.order is None else [values[name] for name in self.order]

    def parameters(self, values: Values, listed: Sequence[Any]) -> Any:  # noqa: ANN401 - the driver's
        """Return the driver's parameters for `values`, by name, and for the list `listed`."""
        places = dict(zip(self.places, listed, strict=True))
        return self.order_values(self.convert(values), self.convert(places))

    def row(self, columns: Sequence[Any]) -> Sequence[Any]:
        """Return the values of a row, converted to Python types."""
        if not self.outgoing:
            return columns
        values = list(columns)
        for place, convert in self.outgoing:
            values[place] = convert(values[place])
        return values


@define
class _Texts:
    """A cache of the SQL of a statement, by database system and by the length of its list."""

    build: Build
    compiled: dict[tuple[str, int], _Text] = field(factory=dict, init=False)

    def find(self, dialect: Dialect, size: int = 0) -> _Text:
        """Return the SQL for a list of `size` values; compile it at the first call."""
        key = dialect.name, size
        if key not in self.compiled:
            self.compiled[key] = _compile(self.build(size), dialect, size)
        return self.compiled[key]


@define
class CompiledSelect(Generic[T]):
    """A compiled SELECT; it calls `row` with the columns of each row as arguments, in order."""

    build: Build
    row: Callable[..., T]
    _texts: _Texts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._texts = _Texts(self.build)

    def all(self, connection: sa.Connection, values: Values, listed: Sequence[Any] = ()) -> list[T]:
        """Run the query with `values`, by name, and the values of its list; return all rows."""
        text = self._texts.find(connection.dialect, len(listed))
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(text.sql, text.parameters(values, listed))
            return [self.row(*text.row(columns)) for columns in cursor.fetchall()]


@define
class CompiledUpdate:
    """A compiled UPDATE."""

    build: Build
    _texts: _Texts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._texts = _Texts(self.build)

    def run(self, connection: sa.Connection, values: Values, listed: Sequence[Any] = ()) -> None:
        """Run the update once with `values`, by name, and the values of its list."""
        text = self._texts.find(connection.dialect, len(listed))
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(text.sql, text.parameters(values, listed))

    def run_many(
        self, connection: sa.Connection, many: Sequence[Values], common: Values | None = None
    ) -> None:
        """Run the update for each mapping in `many`, each time with the `common` values, too."""
        text = self._texts.find(connection.dialect)
        shared = text.convert(common or {})
        rows = [text.order_values(shared, text.convert(values)) for values in many]
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(text.sql, rows)


def _compile(statement: Statement, dialect: Dialect, size: int) -> _Text:
    compiled = statement.compile(dialect=dialect)
    incoming = {
        name: compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
        for name in compiled.params
    }
    columns = statement.selected_columns if isinstance(statement, sa.Select) else ()
    outgoing = [
        column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns
    ]
    return _Text(
        compiled.string,
        compiled.params,
        compiled.positiontup,
        [_place(number) for number in range(size)],
        [(name, convert) for name, convert in incoming.items() if convert],
        [(place, convert) for place, convert in enumerate(outgoing) if convert],
    )
