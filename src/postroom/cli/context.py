"""Option types for instants and durations, and functions that open the store and load the keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from postroom.cli.console import print_problems
from postroom.errors import DatabaseError, Problem, SettingsError, UseError
from postroom.mail import tokens
from postroom.settings.site import load_settings

if TYPE_CHECKING:
    from postroom.db.engine import Database
    from postroom.db.migrate import Locate
    from postroom.db.ownership import LedgerPlace
    from postroom.db.store import Store

KEEP_LEDGER_VAR = "POSTROOM_KEEP_LEDGER_HERE"
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class DurationType(click.ParamType[timedelta]):
    """A duration in minutes, hours or days of 24 hours, such as 90m, 6h or 2d."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, _ctx: click.Context | None
    ) -> timedelta:
        """Return the duration that `value` spells; raises `UseError`."""
        if isinstance(value, timedelta):
            return value
        found = _DURATION.fullmatch(str(value))
        if found is None:
            option = param.opts[0] if param else ""
            message = f"'{value}' is not a duration"
            raise UseError([Problem(option, message=message, hint="write 90m, 6h or 2d")])
        return int(found[1]) * _UNITS[found[2]]


# As for posts: an instant must exist in every time zone, unlike the first and last possible ones.
_YEARS = range(1900, 3000)
_RANGE = f"use a year from {_YEARS[0]} to {_YEARS[-1]}"


class InstantType(click.ParamType[datetime]):
    """An instant as in RFC 3339, such as 2026-11-22T09:00:00Z."""

    name = "instant"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the instant that `value` spells, with its time zone."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is not an instant; write 2026-11-22T09:00:00Z", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"'{value}' has no UTC offset; write {instant.isoformat()}Z", param, ctx)
        if instant.year not in _YEARS:
            self.fail(f"'{value}' is too far away; {_RANGE}", param, ctx)
        return instant


def current_instant() -> datetime:
    """Return now, whatever SOURCE_DATE_EPOCH says: emails and consent need the real time."""
    return datetime.now(UTC)


def build_instant(at: datetime | None) -> datetime:
    """Return the instant of a build: `--at`, else SOURCE_DATE_EPOCH, else now."""
    if at is not None:
        return at
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return datetime.now(UTC)
    hint = "write whole seconds since 1970, or unset it"
    try:
        instant = datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        problem = Problem("SOURCE_DATE_EPOCH", message=f"found '{epoch}'", hint=hint)
        raise UseError([problem]) from None
    if instant.year not in _YEARS:
        problem = Problem("SOURCE_DATE_EPOCH", message=f"found '{epoch}'", hint=_RANGE)
        raise UseError([problem])
    return instant


def moves_ledger() -> bool:
    """Tell whether POSTROOM_KEEP_LEDGER_HERE says that the SQLite file moves between machines.

    Raises `UseError` if its value is neither yes nor no.
    """
    value = os.environ.get(KEEP_LEDGER_VAR, "").lower()
    if value in _YES or value in _NO:
        return value in _YES
    problem = Problem(KEEP_LEDGER_VAR, message=f"found '{value}'", hint="set it to 1, or unset it")
    raise UseError([problem])


def _locate(site_dir: Path) -> Locate:
    """Return a function that returns the place of a new database of the site, to claim it."""
    from postroom.db.ownership import make_place  # noqa: PLC0415

    def locate(database: Database) -> LedgerPlace | None:
        try:
            site_id = load_settings(site_dir).id
        except SettingsError:
            # The first run of `send` claims the database instead.
            return None
        return make_place(database, site_id, moves=moves_ledger())

    return locate


@contextmanager
def open_site_store(site_dir: Path) -> Iterator[Store]:
    """Open the store of the site during a block; POSTROOM_DATABASE_URL tells where it is.

    Raises `SettingsError` and `DatabaseError`. If the block fails because of a value that it read
    from a damaged database, raise `DatabaseError` instead.
    """
    # `build` and `check` use this module for instants and must not load SQLAlchemy.
    from postroom.db import engine  # noqa: PLC0415
    from postroom.db.faults import damage_problem  # noqa: PLC0415
    from postroom.db.store import open_store  # noqa: PLC0415

    url = os.environ.get(engine.DATABASE_URL_VAR) or None
    store = open_store(url, site_dir, _locate(site_dir))
    try:
        yield store
    except (ArithmeticError, LookupError, TypeError, ValueError):
        if store.database.find_damage():
            raise DatabaseError([damage_problem(store.database.name)]) from None
        raise
    finally:
        store.database.close()


def warn_of_claim(store: Store, site_id: str) -> None:
    """Warn if the database belongs to another site, machine or path, so that `send` will refuse.

    A file that moves between machines belongs to a site alone.
    """
    from postroom.db.ownership import make_place  # noqa: PLC0415

    claim = store.claim.find()
    moves = moves_ledger() or (claim is not None and not claim.machine)
    here = make_place(store.database, site_id, moves=moves)
    if problem := store.claim.find_difference(here):
        print_problems([problem], "warning")


def load_keys(store: Store) -> tokens.Keys:
    """Return the secret keys, and let the store remember the oldest.

    Raises `SettingsError` if there are none, or if the oldest is not the one that made the
    suppression hashes.
    """
    keys = tokens.parse_keys(os.environ.get(tokens.SECRET_KEY_VAR))
    store.suppressions.require_key(keys.proof)
    return keys
