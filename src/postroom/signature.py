"""A DKIM signature → whether it holds (RFC 6376 §6.1.3); needs dkimpy, the extra `dkim`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

Holds: TypeAlias = Literal["yes", "no", "unknown"]


@frozen
class Verdict:
    """Whether a signature holds; `reason` says why it does not, or why nobody can tell."""

    holds: Holds
    reason: str = ""


class UnknowableError(Exception):
    """The key of a signature could not be asked for; its text says why."""


def verify(message: bytes, number: int, txt: Callable[[str], str | None]) -> Verdict:
    """Return whether the signature `number` of `message`, counted from 0 at the top, holds.

    `message` has lines ended by CR LF; `txt` returns the key record of a name, nothing if there is
    none, and raises `UnknowableError` where it cannot know.
    """
    try:
        import dkim  # noqa: PLC0415 - an extra
    except ImportError:
        return Verdict("unknown", "dkimpy is not installed; add it with: pip install dkimpy")

    def record(name: bytes, **_: object) -> bytes | None:
        found = txt(name.decode("ascii").rstrip("."))
        return None if found is None else found.encode()

    log = _Log()
    try:
        # RFC 8301 §3.2: a shorter RSA key proves nothing.
        holds = dkim.DKIM(message, logger=log, minkey=1024).verify(idx=number, dnsfunc=record)
    except (UnknowableError, dkim.NaClNotFoundError, dkim.UnknownKeyTypeError) as error:
        return Verdict("unknown", str(error))
    # A hostile signature or key brings dkimpy to errors that are not its own.
    except (dkim.DKIMException, ValueError, LookupError, TypeError) as error:
        return Verdict("no", " ".join(str(error).split()))
    if holds:
        return Verdict("yes")
    return Verdict(
        "no", " ".join(log.errors) or "a signed field was changed, or the key is another"
    )


@define
class _Log:
    """What dkimpy says of a key that it cannot use, instead of raising it."""

    errors: list[str] = Factory(list)

    def error(self, text: object) -> None:
        self.errors.append(" ".join(str(text).split()))

    def debug(self, *_: object) -> None:
        """Forget it."""
