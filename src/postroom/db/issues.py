"""Store issues with their rendered content, so that all subscribers are sent the same."""

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
    """The tables of issues and of their posts.

    Two issues are the same issue if frequency, cutoff, language and posts are equal; their content
    may differ. To freeze an issue is to store it with its content.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def freeze(self, issue: IssueSnapshot) -> int:
        """Store `issue` and return its id; if the same issue is stored already, return that id."""
        with self._database.writing() as connection:
            return _freeze(connection, issue)

    def freeze_anew(self, issue: IssueSnapshot) -> int:
        """Store `issue` in a new row, even if the same issue is stored already; return the new id.

        The old row keeps the content that some subscribers received, but `find_frozen` no longer
        returns it.
        """
        key = _values(issue)["key"]
        with self._database.writing() as connection:
            old = connection.scalar(sa.select(issues.c.id).where(issues.c.key == key))
            if old is not None:
                old_key = hashlib.sha256(f"{key} {old}".encode()).hexdigest()
                connection.execute(sa.update(issues).where(issues.c.id == old).values(key=old_key))
            return _freeze(connection, issue)

    def find(self, number: int) -> IssueSnapshot | None:
        """Return the issue with this id, None if there is none."""
        with self._database.reading() as connection:
            return next(_read(connection, issues.c.id == number), None)

    def find_frozen(self, issue: IssueSnapshot) -> IssueSnapshot | None:
        """Return the stored issue that is the same as `issue`, None if there is none."""
        with self._database.reading() as connection:
            return next(_read(connection, issues.c.key == _values(issue)["key"]), None)

    def has_recipients(self, number: int) -> bool:
        """Tell whether a subscriber has received the issue with this id, or may have."""
        received = deliveries.c.state.in_(("sending", *DELIVERED))
        query = sa.select(deliveries.c.id).where(deliveries.c.issue == number, received).limit(1)
        with self._database.reading() as connection:
            return connection.scalar(query) is not None

    def open_in(self, run: int) -> Generator[tuple[int, str], None, None]:
        """Yield the issue's id and the subscriber's token for each open delivery of `run`."""
        query = (
            sa.select(deliveries.c.issue, subscribers.c.token)
            .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
            .where(deliveries.c.run == run, deliveries.c.state.in_(OPEN))
        )
        return self._database.stream(query, lambda row: (row.issue, row.token))

    def waiting(self, kind: IssueKind) -> tuple[IssueSnapshot, ...]:
        """Return the issues of `kind` that have an open delivery, in the order of their ids."""
        open_ = sa.select(deliveries.c.issue).where(deliveries.c.state.in_(OPEN))
        condition = (issues.c.frequency == kind) & issues.c.id.in_(open_)
        with self._database.reading() as connection:
            return tuple(_read(connection, condition))


def _freeze(connection: sa.Connection, issue: IssueSnapshot) -> int:
    """Store `issue` unless the same issue is stored already; return the id of the stored one."""
    values = _values(issue)
    statement = insert(connection, issues).values(**values).on_conflict_do_nothing()
    connection.execute(statement)
    query = sa.select(issues.c.id).where(issues.c.key == values["key"])
    number: int = connection.execute(query).scalar_one()
    posts = [
        {"issue": number, "position": position, "post": post}
        for position, post in enumerate(issue.posts)
    ]
    if posts:
        connection.execute(insert(connection, issue_posts).on_conflict_do_nothing(), posts)
    return number


def _read(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Iterator[IssueSnapshot]:
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


def _values(issue: IssueSnapshot) -> dict[str, Any]:
    identity = [issue.frequency, issue.cutoff.isoformat(), issue.language, *issue.posts]
    return {
        "key": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        "frequency": issue.frequency,
        "cutoff": issue.cutoff,
        "language": issue.language,
        "date": issue.date,
        "content": issue.content,
    }
