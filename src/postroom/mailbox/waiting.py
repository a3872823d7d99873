"""What every mailbox gives: the messages that nobody has looked at, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from attrs import field, frozen


@frozen
class Waiting:
    """A message in a mailbox: by what the mailbox knows it, and its beginning.

    `fault` says why it could not be read; then it has no bytes.
    """

    name: str
    data: bytes = field(default=b"", repr=False)
    fault: str = ""


class Mailbox(Protocol):
    """Messages that wait; nothing is ever deleted from it."""

    def waiting(self, cap: int) -> Iterator[Waiting]:
        """Yield those that are neither seen nor flagged, `cap` bytes of each at most.

        Raises `MailboxError`.
        """
        ...

    def settle(self, one: Waiting, *, understood: bool) -> None:
        """Mark a message: as seen if it was understood, else as flagged, for a person to read.

        Raises `MailboxError`.
        """
        ...
