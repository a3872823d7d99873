"""`--at` and its kin: the instant that a command takes for the present."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click

from postroom.errors import Problem, UseError

# Those of posts: an instant must exist in every zone, which the first and last of all do not.
_YEARS = range(1900, 3000)
_RANGE = f"take a year from {_YEARS[0]} to {_YEARS[-1]}"


class Instant(click.ParamType[datetime]):
    """An instant of RFC 3339, such as 2026-11-22T09:00:00Z."""

    name = "instant"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the aware instant that `value` writes."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is no instant; write 2026-11-22T09:00:00Z", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"'{value}' has no offset; write {instant.isoformat()}Z", param, ctx)
        if instant.year not in _YEARS:
            self.fail(f"'{value}' is too far away; {_RANGE}", param, ctx)
        return instant


def present() -> datetime:
    """Return the present instant, whatever SOURCE_DATE_EPOCH says: letters and consent are real."""
    return datetime.now(UTC)


def build_instant(at: datetime | None) -> datetime:
    """Return the build instant: `--at`, else SOURCE_DATE_EPOCH, else now."""
    if at is not None:
        return at
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(UTC)
    repair = "write whole seconds since 1970, or unset it"
    try:
        instant = datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        problem = Problem("SOURCE_DATE_EPOCH", what=f"found '{epoch}'", repair=repair)
        raise UseError([problem]) from None
    if instant.year not in _YEARS:
        problem = Problem("SOURCE_DATE_EPOCH", what=f"found '{epoch}'", repair=_RANGE)
        raise UseError([problem])
    return instant
