"""The mail server's reply → what the ledger writes of a delivery."""

from __future__ import annotations

from datetime import datetime

from attrs import evolve, frozen

from postroom.address import key_of
from postroom.delivery.failure import enhanced_status, is_hard, is_soft
from postroom.delivery.ledger import wait
from postroom.model import Claim, Failure, Outcome
from postroom.send.rows import Hashed, Reply

MOST_REFUSED, MOST_DEFERRED, MOST_UNANSWERED = 20, 100, 10


def outcome(claim: Claim, reply: Reply, now: datetime, hashed: Hashed) -> Outcome:
    """Return what is written of the delivery `claim` after `reply`, at the instant `now`.

    A refused sender, or a letter that is too long, says nothing of the subscriber: what is wrong
    there is ours, so the letter waits. `hashed` makes the suppression hash of an address's key.
    """
    said = f"{reply.code} {reply.text}" if reply.code else reply.text
    if reply.kind == "accepted":
        return Outcome(claim.id, "sent", said)
    if reply.kind == "uncertain":
        return Outcome(claim.id, "uncertain", said)
    if reply.kind == "deferred" or is_ours(reply):
        return Outcome(claim.id, "deferred", said, now + wait(claim.attempts))
    status = enhanced_status(reply.text)
    hard = is_hard(reply.code, status)
    if not hard and not is_soft(reply.code, status):
        return Outcome(claim.id, "bounced", said)
    key = hashed(key_of(claim.address))
    failure = Failure(claim.subscriber, key, hard, said, claim.id)
    return Outcome(claim.id, "bounced", said, failure=failure)


def is_ours(reply: Reply) -> bool:
    """Tell whether what was refused is the sender or the letter's form, not this recipient."""
    return reply.kind == "refused" and reply.command in ("", "MAIL")


def is_unheard(reply: Reply) -> bool:
    """Tell whether the server never judged the letter: the connection ended before its final dot.

    Then the letter may be tried at once on another connection.
    """
    # RFC 5321 §3.8: 421 is about the connection, whatever it answers.
    lost = not reply.usable and reply.code in (0, 421)
    return lost and reply.kind == "deferred" and reply.command != "end of data"


@frozen
class Streak:
    """How many letters in a row the server would not take, for reasons that are not the reader's.

    A relay that is set up wrongly refuses everybody; the sooner a run stops then, the less there is
    to mend.
    """

    refused: int = 0
    deferred: int = 0
    unanswered: int = 0
    said: str = ""

    def after(self, outcome: Outcome) -> Streak:
        """Return the streak after one more letter."""
        if outcome.state == "sent" or (outcome.failure and outcome.failure.hard):
            return Streak()
        if outcome.state == "uncertain":
            return evolve(self, unanswered=self.unanswered + 1, said=outcome.reply)
        if outcome.state == "deferred":
            return evolve(self, deferred=self.deferred + 1, said=outcome.reply)
        return evolve(self, refused=self.refused + 1, said=outcome.reply)

    @property
    def is_too_long(self) -> bool:
        """Whether it is time to stop and ask."""
        return (
            self.refused >= MOST_REFUSED
            or self.deferred >= MOST_DEFERRED
            or self.unanswered >= MOST_UNANSWERED
        )
