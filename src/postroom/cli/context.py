"""What commands share: instants, lengths of time, the secret keys, and the site's store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from postroom.errors import Problem, UseError
from postroom.mail import tokens

if TYPE_CHECKING:
    from postroom.db.store import Store

_FORM = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class DurationType(click.ParamType[timedelta]):
    """Minutes, hours or days of 24 hours, such as 90m, 6h or 2d."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, _ctx: click.Context | None
    ) -> timedelta:
        """Return the length that `value` writes; raises `UseError`."""
        if isinstance(value, timedelta):
            return value
        found = _FORM.fullmatch(str(value))
        if found is None:
            where = param.opts[0] if param else ""
            what, repair = f"'{value}' is no length of time", "write 90m, 6h or 2d"
            raise UseError([Problem(where, message=what, hint=repair)])
        return int(found[1]) * _UNITS[found[2]]


# Those of posts: an instant must exist in every zone, which the first and last of all do not.
_YEARS = range(1900, 3000)
_RANGE = f"take a year from {_YEARS[0]} to {_YEARS[-1]}"


class InstantType(click.ParamType[datetime]):
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


def current_instant() -> datetime:
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
        problem = Problem("SOURCE_DATE_EPOCH", message=f"found '{epoch}'", hint=repair)
        raise UseError([problem]) from None
    if instant.year not in _YEARS:
        problem = Problem("SOURCE_DATE_EPOCH", message=f"found '{epoch}'", hint=_RANGE)
        raise UseError([problem])
    return instant


@contextmanager
def open_site_store(site_dir: Path) -> Iterator[Store]:
    """Open the newsroom's store for a block; POSTROOM_DATABASE_URL says where it is.

    Raises `SettingsError` and `DatabaseError`.
    """
    # `build` and `check` parse instants too, and must not import SQLAlchemy for it.
    from postroom.db import engine  # noqa: PLC0415
    from postroom.db.store import open_store  # noqa: PLC0415

    store = open_store(os.environ.get(engine.DATABASE_URL_VAR) or None, site_dir)
    try:
        yield store
    finally:
        store.database.close()


def load_keys(store: Store) -> tokens.Keys:
    """Return the secret keys, once the store knows their oldest one.

    Raises `SettingsError` if there are none, or the oldest is not that of the suppressions.
    """
    keys = tokens.parse_keys(os.environ.get(tokens.SECRET_KEY_VAR))
    store.suppressions.require_key(keys.proof)
    return keys
