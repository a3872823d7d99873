"""The mail server's reply → what the ledger writes of a delivery."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import evolve, frozen

from postroom.db.deliveries import Hashed
from postroom.mail.address import address_key
from postroom.mail.bounce_policy import enhanced_status, is_hard, is_soft
from postroom.models import ClaimedDelivery, DeliveryFailure, DeliveryOutcome
from postroom.send.pool import SmtpReply

Clock: TypeAlias = Callable[[], datetime]

MOST_REFUSED, MOST_GIVEN_UP, MOST_DEFERRED, MOST_UNANSWERED = 20, 100, 100, 10


def make_outcome(
    claim: ClaimedDelivery, reply: SmtpReply, now: datetime, hashed: Hashed
) -> DeliveryOutcome:
    """Return what is written of the delivery `claim` after `reply`, at the instant `now`.

    A refused sender, or a letter that is too long, says nothing of the subscriber: what is wrong
    there is ours, so the letter waits. Every permanent reply but a hard bounce is a refusal: the
    subscriber stays on the list and goes without the email. `hashed` makes the suppression hash of
    an address's key.
    """
    said = describe_reply(reply)
    if reply.kind == "accepted":
        return DeliveryOutcome(claim.id, "sent", said)
    if reply.kind == "uncertain":
        return DeliveryOutcome(claim.id, "uncertain", said)
    if reply.kind == "deferred" or is_own_fault(reply):
        due = now + retry_delay(claim.attempts)
        return DeliveryOutcome(claim.id, "deferred", said, due, refused=reply.kind == "refused")
    status = enhanced_status(reply.text)
    hard = is_hard(reply.code, status)
    if not hard and not is_soft(reply.code, status):
        return DeliveryOutcome(claim.id, "bounced", said, refused=True)
    key = hashed(address_key(claim.address))
    failure = DeliveryFailure(claim.subscriber, key, hard, said, claim.id)
    return DeliveryOutcome(claim.id, "bounced", said, failure=failure, refused=not hard)


def describe_reply(reply: SmtpReply) -> str:
    """Return the reply in one line, with its code if there was one."""
    return f"{reply.code} {reply.text}" if reply.code else reply.text


def is_own_fault(reply: SmtpReply) -> bool:
    """Tell whether what was refused is the sender or the letter's form, not this recipient."""
    return reply.kind == "refused" and reply.command in ("", "MAIL")


@frozen
class CircuitBreaker:
    """How many letters in a row the server would not take.

    A relay that is set up wrongly refuses everybody; the sooner a run stops then, the less there is
    to mend. `given_up` counts recipients that it called bad for ever: a list may hold many of them
    side by side, so they may be more.
    """

    refused: int = 0
    given_up: int = 0
    deferred: int = 0
    unanswered: int = 0
    said: str = ""

    def after(self, reply: SmtpReply) -> CircuitBreaker:
        """Return the streak after one more reply; what the server was not asked does not count."""
        if reply.kind == "accepted":
            return _NONE
        if reply.kind == "refused" and not reply.command:
            return self
        said = describe_reply(reply)
        if reply.kind == "uncertain":
            return evolve(self, unanswered=self.unanswered + 1, said=said)
        if reply.kind == "deferred":
            return evolve(self, deferred=self.deferred + 1, said=said)
        if is_hard(reply.code, enhanced_status(reply.text)):
            return evolve(self, given_up=self.given_up + 1, said=said)
        return evolve(self, refused=self.refused + 1, said=said)

    @property
    def is_too_long(self) -> bool:
        """Whether it is time to stop and ask."""
        return (
            self.refused >= MOST_REFUSED
            or self.given_up >= MOST_GIVEN_UP
            or self.deferred >= MOST_DEFERRED
            or self.unanswered >= MOST_UNANSWERED
        )

    @property
    def affected(self) -> int:
        """How many letters it is made of."""
        return self.refused + self.given_up + self.deferred + self.unanswered


_NONE = CircuitBreaker()

_FIRST_WAIT = timedelta(minutes=15)
_LONGEST_WAIT = timedelta(hours=6)


def retry_delay(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts: twice as long each time, up to a limit."""
    return min(_FIRST_WAIT * (1 << min(attempts - 1, 10)), _LONGEST_WAIT)
