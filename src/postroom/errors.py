"""Problems, and the exceptions that carry them.

A `Problem` is printed as one line: the place, what is wrong, and how to fix it. An exception
carries all problems that a command has found; the command line prints these, and no traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from attrs import frozen

# A line break or an escape sequence in a file name or a value could forge lines of output.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@frozen(order=True)
class Problem:
    """One error or warning, at a place that the user can open.

    `path` is relative to the site; `line` and `column` count from 1; `key` names what the
    problem is about, for example a front matter key, a setting or an option. `rule` is the rule of
    `postroom check` that found the problem; it is empty for an error that no setting can switch
    off.
    """

    path: str
    line: int = 0
    column: int = 0
    key: str = ""
    message: str = ""
    hint: str = ""
    rule: str = ""

    def __str__(self) -> str:
        """Return `posts/a.md:4:9: topics: the message; the hint`."""
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part)
        sentence = "; ".join(part for part in (self.message, self.hint) if part)
        line = ": ".join(part for part in (place, self.key, sentence) if part)
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", line)


class PostroomError(Exception):
    """A command cannot go on; `problems` holds the reasons, and `exit_code` its exit status."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ContentError(PostroomError):
    """Posts cannot be published as they are."""


class TemplateError(PostroomError):
    """A template of the theme or of the site cannot be rendered."""


class OutputError(PostroomError):
    """Files cannot be written, for example as they would overwrite files of somebody else."""


class SettingsError(PostroomError):
    """The settings or the environment variables are not valid, or the folder holds no site."""

    exit_code = 2


class UseError(PostroomError):
    """A command was called with arguments that make no sense."""

    exit_code = 2


class DatabaseError(PostroomError):
    """The database cannot be reached, or does not answer; the transaction had no effect."""


class LeaseError(PostroomError):
    """Another run is sending; only one run may send at a time."""


class StoppedError(PostroomError):
    """A run must not go on until the operator has decided."""


class MailboxError(PostroomError):
    """The mailbox of bounces cannot be reached, trusted, logged in to or read."""


class RelayError(PostroomError):
    """The relay cannot be reached, trusted or logged in to; nothing was sent.

    `passing` tells whether the cause may be temporary, so that a later attempt may succeed.
    """

    def __init__(self, problems: Iterable[Problem], *, passing: bool) -> None:
        super().__init__(problems)
        self.passing = passing
