"""The few statements that SQLAlchemy spells differently for SQLite and PostgreSQL."""

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
    """Return an INSERT that knows ON CONFLICT; both databases write it alike."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def greater(column: sa.ColumnElement[T], value: Any) -> sa.ColumnElement[T]:  # noqa: ANN401 - value or expression
    """Return the greater of the two: `max` on one database is `greatest` on the other."""
    return sa.case((column < value, value), else_=column)


Statement: TypeAlias = sa.Select[Any] | sa.Update
Build: TypeAlias = Callable[[int], Statement]
"""Makes a statement for a list of so many values."""
Values: TypeAlias = Mapping[str, Any]
Convert: TypeAlias = Callable[[Any], Any]


def among(column: sa.ColumnElement[Any], size: int) -> sa.ColumnElement[bool]:
    """Return the condition that `column` is one of the `size` values of the statement's list."""
    return column.in_([sa.bindparam(_place(n), type_=column.type) for n in range(size)])


def _place(number: int) -> str:
    return f"among_{number}"


@frozen
class _Text:
    """The SQL of a statement on one database, and what values go through on their way."""

    sql: str
    constants: Values
    order: Sequence[str] | None
    places: Sequence[str]
    incoming: Sequence[tuple[str, Convert]]
    outgoing: Sequence[tuple[int, Convert]]

    def converted(self, values: Values) -> dict[str, Any]:
        """Return values as the driver takes them."""
        given = dict(values)
        for name, convert in self.incoming:
            if name in given:
                given[name] = convert(given[name])
        return given

    def ordered(self, *parts: Values) -> Any:  # noqa: ANN401 - the driver's
        """Return converted values and the constants together, as the driver takes them."""
        given = dict(self.constants)
        for part in parts:
            given.update(part)
        return given if self.order is None else [given[name] for name in self.order]

    def parameters(self, values: Values, listed: Sequence[Any]) -> Any:  # noqa: ANN401 - the driver's
        """Return the values of a statement and those of its list as the driver takes them."""
        places = dict(zip(self.places, listed, strict=True))
        return self.ordered(self.converted(values), self.converted(places))

    def row(self, found: Sequence[Any]) -> Sequence[Any]:
        """Return a row as Python has its values."""
        if not self.outgoing:
            return found
        values = list(found)
        for place, convert in self.outgoing:
            values[place] = convert(values[place])
        return values


@define
class _Texts:
    """A statement's SQL, by database and by the length of its list."""

    build: Build
    made: dict[tuple[str, int], _Text] = field(factory=dict, init=False)

    def find(self, dialect: Dialect, size: int = 0) -> _Text:
        """Return the SQL, made at the first time."""
        key = dialect.name, size
        if key not in self.made:
            self.made[key] = _compiled(self.build(size), dialect, size)
        return self.made[key]


@define
class CompiledSelect(Generic[T]):
    """A SELECT that stands ready; `row` makes of each row's columns, in their order, what it is."""

    build: Build
    row: Callable[..., T]
    _texts: _Texts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._texts = _Texts(self.build)

    def all(self, connection: sa.Connection, values: Values, listed: Sequence[Any] = ()) -> list[T]:
        """Return the rows of the answer."""
        text = self._texts.find(connection.dialect, len(listed))
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(text.sql, text.parameters(values, listed))
            return [self.row(*text.row(found)) for found in cursor.fetchall()]


@define
class CompiledUpdate:
    """An UPDATE that stands ready."""

    build: Build
    _texts: _Texts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._texts = _Texts(self.build)

    def run(self, connection: sa.Connection, values: Values, listed: Sequence[Any] = ()) -> None:
        """Run it once."""
        text = self._texts.find(connection.dialect, len(listed))
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(text.sql, text.parameters(values, listed))

    def run_many(
        self, connection: sa.Connection, many: Sequence[Values], common: Values | None = None
    ) -> None:
        """Run it for each of `many`, with what is `common` to them."""
        text = self._texts.find(connection.dialect)
        shared = text.converted(common or {})
        rows = [text.ordered(shared, text.converted(values)) for values in many]
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(text.sql, rows)


def _compiled(statement: Statement, dialect: Dialect, size: int) -> _Text:
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
