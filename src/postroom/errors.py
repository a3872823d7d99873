"""What can be wrong, said for the person who must act.

A `Problem` is one line: where, what was found, how to repair it. The exceptions below carry all
problems of a run at once; the command line prints them and never a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from attrs import frozen

# A line break or an escape sequence in a file's name or a value would forge lines of its own.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@frozen(order=True)
class Problem:
    """One fault, or one warning, in a place that a person can open.

    `path` is relative to the newsroom; `line` and `column` count from 1; `key` names the front
    matter key, the setting or the part that is concerned; `rule` is the rule of `postroom check`
    that found it, empty for a fault that no settings can allow.
    """

    path: str
    line: int = 0
    column: int = 0
    key: str = ""
    message: str = ""
    hint: str = ""
    rule: str = ""

    def __str__(self) -> str:
        """Return `posts/a.md:4:9: topics: what was found; how to repair it`."""
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part)
        sentence = "; ".join(part for part in (self.message, self.hint) if part)
        line = ": ".join(part for part in (place, self.key, sentence) if part)
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", line)


class PostroomError(Exception):
    """A run cannot go on; `problems` says why, all of it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ContentError(PostroomError):
    """Posts cannot be published as they are."""


class TemplateError(PostroomError):
    """A template of the theme or of the newsroom cannot be rendered."""


class OutputError(PostroomError):
    """The output cannot be written without touching what is not ours."""


class SettingsError(PostroomError):
    """The settings, or the folder, are not those of a newsroom."""

    exit_code = 2


class UseError(PostroomError):
    """A command was asked for something that it cannot mean."""

    exit_code = 2


class DatabaseError(PostroomError):
    """The database cannot be reached, or does not answer; nothing of what was asked is done."""


class LeaseError(PostroomError):
    """Another run is sending; only one may."""


class StoppedError(PostroomError):
    """A run would do what cannot be undone; it has moved nothing and waits for a person."""


class MailboxError(PostroomError):
    """The mailbox of reports cannot be reached, trusted, logged in to or read."""


class RelayError(PostroomError):
    """The mail server cannot be reached, trusted or logged in to; nothing was sent.

    `passing` tells whether the same attempt may go well later.
    """

    def __init__(self, problems: Iterable[Problem], *, passing: bool) -> None:
        super().__init__(problems)
        self.passing = passing
