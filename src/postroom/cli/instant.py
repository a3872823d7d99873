"""`--at` and its kin: the instant that a command takes for the present."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click

from postroom.errors import Problem, UseError


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
            self.fail(f"'{value}' has no offset; write {value}Z, or +01:00", param, ctx)
        return instant


def build_instant(at: datetime | None) -> datetime:
    """Return the build instant: `--at`, else SOURCE_DATE_EPOCH, else now."""
    if at is not None:
        return at
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        repair = "write whole seconds since 1970, or unset it"
        problem = Problem("SOURCE_DATE_EPOCH", what=f"found '{epoch}'", repair=repair)
        raise UseError([problem]) from None
