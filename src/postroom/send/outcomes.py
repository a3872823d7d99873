"""Decide what a reply of the SMTP server means for a delivery, and whether a run must stop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import evolve, frozen

from postroom.db.deliveries import Hashed
from postroom.mail.address import address_key
from postroom.mail.bounce_policy import classify_reply
from postroom.models import ClaimedDelivery, DeliveryFailure, DeliveryOutcome
from postroom.smtp.transaction import TransactionResult

Clock: TypeAlias = Callable[[], datetime]

# The circuit breaker opens at so many replies in a row.
MAX_REFUSED, MAX_HARD_BOUNCES, MAX_DEFERRED, MAX_UNANSWERED = 20, 100, 100, 10


def make_outcome(
    claim: ClaimedDelivery, reply: TransactionResult, now: datetime, hash_key: Hashed
) -> DeliveryOutcome:
    """Return the outcome of the delivery `claim` after `reply` at the instant `now`.

    If the server refuses the sender, or the email has a form that it does not take, the site is at
    fault and not the subscriber's address: the delivery is deferred, to be tried again. Other
    permanent replies make the delivery bounced. A hard bounce stops the subscriber, as do several
    soft bounces in a row; otherwise the subscriber stays on the list and misses this email.
    `hash_key` returns the suppression hash of an address's key.
    """
    text = describe_reply(reply)
    if reply.kind == "accepted":
        return DeliveryOutcome(claim.id, "sent", text)
    if reply.kind == "uncertain":
        return DeliveryOutcome(claim.id, "uncertain", text)
    if reply.kind == "deferred" or is_own_fault(reply):
        due = now + retry_delay(claim.attempts)
        return DeliveryOutcome(claim.id, "deferred", text, due, refused=reply.kind == "refused")
    refusal = classify_reply(reply.code, reply.text)
    if refusal == "refused":
        return DeliveryOutcome(claim.id, "bounced", text, refused=True)
    key = hash_key(address_key(claim.address))
    hard = refusal == "hard"
    failure = DeliveryFailure(claim.subscriber, key, hard, text, claim.id)
    return DeliveryOutcome(claim.id, "bounced", text, failure=failure, refused=not hard)


def describe_reply(reply: TransactionResult) -> str:
    """Return the reply as one line: its code, if there is one, and its text."""
    return f"{reply.code} {reply.text}" if reply.code else reply.text


def is_own_fault(reply: TransactionResult) -> bool:
    """Tell whether the cause of a refusal is the site: the sender or the form of the email.

    The form was refused if no command was sent, for example because the email is too large.
    """
    return reply.kind == "refused" and reply.command in ("", "MAIL")


@frozen
class CircuitBreaker:
    """Stops a run after too many replies in a row without an accepted email.

    That happens if the relay refuses everything, for example because it is set up wrongly. The
    numbers are those of the replies since the last accepted email, by kind. `hard_bounces` have a
    higher limit than `refused`, since a list may hold many dead addresses side by side.
    """

    refused: int = 0
    hard_bounces: int = 0
    deferred: int = 0
    unanswered: int = 0
    last_reply: str = ""

    def after(self, reply: TransactionResult) -> CircuitBreaker:
        """Return the circuit breaker after one more reply.

        An email that was refused without asking the server is ignored.
        """
        if reply.kind == "accepted":
            return _CLOSED
        if reply.kind == "refused" and not reply.command:
            return self
        text = describe_reply(reply)
        if reply.kind == "uncertain":
            return evolve(self, unanswered=self.unanswered + 1, last_reply=text)
        if reply.kind == "deferred":
            return evolve(self, deferred=self.deferred + 1, last_reply=text)
        if classify_reply(reply.code, reply.text) == "hard":
            return evolve(self, hard_bounces=self.hard_bounces + 1, last_reply=text)
        return evolve(self, refused=self.refused + 1, last_reply=text)

    @property
    def is_open(self) -> bool:
        """Whether the run must stop."""
        return (
            self.refused >= MAX_REFUSED
            or self.hard_bounces >= MAX_HARD_BOUNCES
            or self.deferred >= MAX_DEFERRED
            or self.unanswered >= MAX_UNANSWERED
        )

    @property
    def affected(self) -> int:
        """The number of emails since the last accepted one, none of which was accepted."""
        return self.refused + self.hard_bounces + self.deferred + self.unanswered


_CLOSED = CircuitBreaker()

_FIRST_DELAY = timedelta(minutes=15)
_LONGEST_DELAY = timedelta(hours=6)


def retry_delay(attempts: int) -> timedelta:
    """Return how long to wait after the attempt with this number, counted from 1.

    The delay is 15 minutes after the first attempt and doubles each time, up to six hours.
    """
    return min(_FIRST_DELAY * (1 << min(attempts - 1, 10)), _LONGEST_DELAY)
