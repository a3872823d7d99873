"""The mailbox to which reports are sent: a Maildir, or a folder of an IMAP server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroom.mailbox.address import VARIABLE, Server, read_address
from postroom.mailbox.waiting import Mailbox, Waiting

__all__ = ["VARIABLE", "Mailbox", "Server", "Waiting", "opened", "read_address"]


@contextmanager
def opened(address: Server | Path) -> Iterator[Mailbox]:
    """Open the mailbox at `address` for a block.

    Raises `SettingsError` if there is none, and `MailboxError`.
    """
    if isinstance(address, Path):
        from postroom.mailbox.maildir import Maildir  # noqa: PLC0415 - one of the two is wanted

        yield Maildir(address)
        return
    from postroom.mailbox import imap  # noqa: PLC0415

    with imap.opened(address) as mailbox:
        yield mailbox
