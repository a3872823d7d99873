"""A Maildir: a folder with a file for each message, flags in its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from postroom.errors import MailboxError, Problem, SettingsError
from postroom.mailbox.address import VARIABLE
from postroom.mailbox.waiting import Waiting

_INFO = ":2,"
# Trashed, seen, flagged: somebody has decided about it.
_DONE = frozenset("TSF")


class Maildir:
    """The messages in `new` and `cur` of one folder; its own folders are not looked at."""

    def __init__(self, folder: Path) -> None:
        """Take the Maildir at `folder`, which must be there; raises `SettingsError`."""
        self._folder = folder
        if not all((folder / name).is_dir() for name in ("new", "cur")):
            what, repair = "there is no Maildir at this path", "name the folder that holds new/"
            raise SettingsError([Problem(VARIABLE, what=what, repair=repair)])

    def waiting(self, cap: int) -> Iterator[Waiting]:
        """Yield what is neither seen nor flagged, oldest name first."""
        for name in self._names():
            try:
                with (self._folder / name).open("rb") as file:
                    data = file.read(cap)
            except FileNotFoundError:
                continue  # another program has moved it
            except OSError as error:
                yield Waiting(name, fault=f"cannot be read ({error.strerror})")
            else:
                yield Waiting(name, data)

    def _names(self) -> list[str]:
        found = [
            (path.name, place)
            for place in ("new", "cur")
            for path in self._folder.joinpath(place).iterdir()
            if path.is_file() and not path.name.startswith(".")
        ]
        return [
            f"{place}/{name}"
            for name, place in sorted(found)
            if place == "new" or not _DONE & set(name.partition(_INFO)[2])
        ]

    def settle(self, one: Waiting, *, understood: bool) -> None:
        """Move a message to `cur` with its flag: one rename, so it is never in two places."""
        place, _, name = one.name.partition("/")
        base, _, flags = name.partition(_INFO)
        flags = "".join(sorted({*flags, "S" if understood else "F"}))
        try:
            (self._folder / place / name).rename(self._folder / "cur" / f"{base}{_INFO}{flags}")
        except FileNotFoundError:
            return
        except OSError as error:
            problem = Problem(one.name, what=f"cannot be moved ({error.strerror})")
            raise MailboxError([problem]) from None
