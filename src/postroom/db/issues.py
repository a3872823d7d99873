"""Letters, as they were frozen for all who are owed the same posts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator
from typing import Any

import sqlalchemy as sa

from postroom.db.compiled import insert
from postroom.db.deliveries import DELIVERED
from postroom.db.engine import Database
from postroom.db.schema import deliveries, issue_posts, issues, subscribers
from postroom.db.subscribers import OPEN
from postroom.models import IssueKind, IssueSnapshot


class IssueTable:
    """The rows of letters and of the posts that they hold."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def freeze(self, letter: IssueSnapshot) -> int:
        """Keep `letter` and return its id; the same one is frozen once, as it first was.

        The same are letters of one frequency, boundary and language that hold the same posts.
        """
        with self._database.writing() as connection:
            return _frozen(connection, letter)

    def freeze_anew(self, letter: IssueSnapshot) -> int:
        """Keep `letter` in the place of the same one, if that was frozen; return its id.

        The row of the other stays for those who have it.
        """
        key = _values(letter)["key"]
        with self._database.writing() as connection:
            old = connection.scalar(sa.select(issues.c.id).where(issues.c.key == key))
            if old is not None:
                aside = hashlib.sha256(f"{key} {old}".encode()).hexdigest()
                connection.execute(sa.update(issues).where(issues.c.id == old).values(key=aside))
            return _frozen(connection, letter)

    def find(self, number: int) -> IssueSnapshot | None:
        """Return the letter with this id."""
        with self._database.reading() as connection:
            return next(_found(connection, issues.c.id == number), None)

    def find_frozen(self, letter: IssueSnapshot) -> IssueSnapshot | None:
        """Return the same letter as `letter`, as it was frozen before."""
        with self._database.reading() as connection:
            return next(_found(connection, issues.c.key == _values(letter)["key"]), None)

    def has_recipients(self, number: int) -> bool:
        """Tell whether somebody has, or may have, the letter with this id."""
        theirs = deliveries.c.state.in_(("sending", *DELIVERED))
        asked = sa.select(deliveries.c.id).where(deliveries.c.issue == number, theirs).limit(1)
        with self._database.reading() as connection:
            return connection.scalar(asked) is not None

    def open_in(self, run: int) -> Generator[tuple[int, str], None, None]:
        """Yield the letter, by id, and the reader's token of each open row of the plan of `run`."""
        asked = (
            sa.select(deliveries.c.issue, subscribers.c.token)
            .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
            .where(deliveries.c.run == run, deliveries.c.state.in_(OPEN))
        )
        return self._database.stream(asked, lambda row: (row.issue, row.token))

    def waiting(self, kind: IssueKind) -> tuple[IssueSnapshot, ...]:
        """Return the letters of a kind that are open for somebody, by id."""
        open_ = sa.select(deliveries.c.issue).where(deliveries.c.state.in_(OPEN))
        condition = (issues.c.frequency == kind) & issues.c.id.in_(open_)
        with self._database.reading() as connection:
            return tuple(_found(connection, condition))


def _frozen(connection: sa.Connection, letter: IssueSnapshot) -> int:
    """Freeze `letter`, unless the same one is; return its id."""
    values = _values(letter)
    statement = insert(connection, issues).values(**values).on_conflict_do_nothing()
    connection.execute(statement)
    asked = sa.select(issues.c.id).where(issues.c.key == values["key"])
    number: int = connection.execute(asked).scalar_one()
    posts = [
        {"issue": number, "position": position, "post": post}
        for position, post in enumerate(letter.posts)
    ]
    if posts:
        held = insert(connection, issue_posts).on_conflict_do_nothing()
        connection.execute(held, posts)
    return number


def _found(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Iterator[IssueSnapshot]:
    for row in connection.execute(sa.select(issues).where(condition).order_by(issues.c.id)).all():
        posts = sa.select(issue_posts.c.post).where(issue_posts.c.issue == row.id)
        yield IssueSnapshot(
            frequency=row.frequency,
            cutoff=row.cutoff,
            language=row.language,
            posts=tuple(connection.scalars(posts.order_by(issue_posts.c.position))),
            date=row.date,
            content=row.content,
            id=row.id,
        )


def _values(letter: IssueSnapshot) -> dict[str, Any]:
    same = [letter.frequency, letter.cutoff.isoformat(), letter.language, *letter.posts]
    return {
        "key": hashlib.sha256(json.dumps(same).encode()).hexdigest(),
        "frequency": letter.frequency,
        "cutoff": letter.cutoff,
        "language": letter.language,
        "date": letter.date,
        "content": letter.content,
    }
