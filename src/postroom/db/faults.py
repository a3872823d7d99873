"""Describe errors of the database drivers as one-line problems that say what to do."""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError

from postroom.errors import Problem

_RESTORE = "stop Postroom, keep a copy of the file, and restore a backup"
_PERMISSIONS = "give this user read and write access to the file and its folder"
_SPACE = "free some space, and run this again"
# By the names of SQLite's result codes (sqlite.org/rescode.html); extended codes begin with them.
_BY_CODE = {
    "SQLITE_NOTADB": ("is damaged, or is not a database", f"correct its path, or {_RESTORE}"),
    "SQLITE_FULL": ("cannot be written, because the disk is full", _SPACE),
    "SQLITE_IOERR": (
        "cannot be read or written (disk I/O error)",
        "check the disk and its free space, and run this again",
    ),
    "SQLITE_READONLY": ("cannot be written", _PERMISSIONS),
    "SQLITE_CANTOPEN": ("cannot be opened", _PERMISSIONS),
}
# In other words of SQLite: a part of the file that describes its tables is unreadable.
_DAMAGE = re.compile(r"malformed|unsupported file format|no such (?:table|column|index)|UTF-8")


class DamagedValueError(ValueError):
    """A column holds a value that Postroom has never written there."""


def damage_problem(name: str) -> Problem:
    """Return the problem of a damaged database; it repeats nothing that was read from the file."""
    return Problem(name, message="is damaged", hint=_RESTORE)


def empty_file_problem(name: str) -> Problem:
    """Return the problem of a database file without any content."""
    hint = "restore a backup, or delete the file to begin a new database"
    return Problem(name, message="is empty", hint=hint)


def open_problem(name: str, error: OSError) -> Problem:
    """Return the problem of a database file that cannot be opened or made."""
    reason = error.strerror or "unknown error"
    hint = "check its path, its permissions and the free space"
    return Problem(name, message=f"cannot be opened ({reason.lower()})", hint=hint)


def driver_problem(name: str, error: Exception) -> Problem:
    """Return the problem that describes an error of the database driver.

    The first line of the error's message is shown if nothing better is known. The lines that follow
    may repeat the values of a row. So may SQLite's message about a text that is not UTF-8.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    lines = str(primary or cause or "").strip().splitlines() or ["does not answer"]
    if "locked" in lines[0] or "lock timeout" in lines[0]:
        hint = "another program is writing; run this again when it has finished"
        return Problem(name, message="is locked", hint=hint)
    code = str(getattr(cause, "sqlite_errorname", ""))
    for known, (message, hint) in _BY_CODE.items():
        if code.startswith(known):
            return Problem(name, message=message, hint=hint)
    is_sqlite = type(cause).__module__ == "sqlite3"
    if isinstance(cause, UnicodeDecodeError | DamagedValueError):
        return damage_problem(name)
    if code.startswith("SQLITE_CORRUPT") or (is_sqlite and _DAMAGE.search(lines[0])):
        return damage_problem(name)
    return Problem(name, message=lines[0])
