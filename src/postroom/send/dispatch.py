"""How fast letters may leave: a token bucket, as relays count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Protocol

from attrs import frozen

from postroom.errors import DatabaseError, LeaseError, Problem, StoppedError
from postroom.mail.address import mask_address
from postroom.models import ClaimedDelivery, DeliveryOutcome, DeliveryState
from postroom.send.outcomes import CircuitBreaker
from postroom.send.pool import ConnectionPool, OutgoingMessage, SmtpReply, Transport

# So much of a second's letters may leave at once; a relay's own count is no finer.
_BURST = 0.1


@frozen
class RateLimiter:
    """A rate in letters a second, and how many may leave at the instant `at` of a steady clock."""

    rate: float
    at: float
    tokens: float = 1.0

    def reached(self, now: float) -> RateLimiter:
        """Return the pace at the later instant `now`."""
        most = max(1.0, self.rate * _BURST)
        return RateLimiter(self.rate, now, min(most, self.tokens + (now - self.at) * self.rate))

    def spent(self, letters: int) -> RateLimiter:
        """Return the pace after so many letters."""
        return RateLimiter(self.rate, self.at, self.tokens - letters)

    @property
    def allowed(self) -> int:
        """How many letters may leave now."""
        return int(self.tokens)

    @property
    def wait(self) -> float:
        """How many seconds there are until the next may leave."""
        return max(0.0, 1.0 - self.tokens) / self.rate


# What became of the letters that are out is offered to a failing database after these seconds.
_RETRIES = (0.0, 1.0, 2.0, 4.0, 8.0)
# How many seconds may pass before a signal is noticed.
_GLANCE = 0.2

Counts = Mapping[DeliveryState, int]
"""How many letters of a run have come to which end so far."""


class DeliveryQueue(Protocol):
    """The letters that are to leave, and the ledger that knows them."""

    def take(self, outcomes: Sequence[DeliveryOutcome], limit: int) -> Sequence[ClaimedDelivery]:
        """Record `outcomes`, and take up to `limit` letters for sending, in one transaction."""

    def record(self, outcomes: Sequence[DeliveryOutcome]) -> None:
        """Write down what became of letters."""

    def wake(self) -> int:
        """Plan the deferred letters whose time has come; return how many."""

    def outgoing(self, claim: ClaimedDelivery) -> OutgoingMessage | DeliveryOutcome:
        """Return the letter as it leaves, or what becomes of it because it cannot."""

    def unsent(self, claim: ClaimedDelivery, why: str) -> DeliveryOutcome:
        """Return what is written of a letter that was taken, and that no server heard of."""

    def outcome(self, claim: ClaimedDelivery, reply: SmtpReply) -> DeliveryOutcome:
        """Return what is written of a letter after the server's reply."""


class Dispatcher:
    """The conversations of one run with the mail server, and the ledger in step with them."""

    def __init__(  # noqa: PLR0913 - each is another thing that a test holds still
        self,
        work: DeliveryQueue,
        way: Transport,
        *,
        stopped: Callable[[], bool] = lambda: False,
        tell: Callable[[Counts], None] = lambda _: None,
        ticks: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Deliver until nothing is left or `stopped` says so; `tell` hears of every step."""
        self._work = work
        self._lines = ConnectionPool(way, ticks)
        self._stopped, self._tell = stopped, tell
        self._ticks, self._sleep = ticks, sleep
        self._pace = RateLimiter(way.rate, ticks())
        self._outcomes: list[DeliveryOutcome] = []
        self._counts: Counter[DeliveryState] = Counter()
        self._refused: Counter[DeliveryState] = Counter()
        self._streak = CircuitBreaker()
        self._letters = 0
        self._dry = False

    def run(self, letters: int) -> Counts:
        """Deliver `letters` letters, or those that there are, and return what became of them.

        Whatever is raised, the open conversations were finished first and written down, if the
        database let them; save on a second Ctrl-C. Raises `RelayError` if there is no connection to
        be had, `StoppedError` if the server takes nothing from us, `LeaseError` and
        `DatabaseError`.
        """
        self._letters = letters
        try:
            self._lines.open(letters, self._stopped, _GLANCE)
            while self._step():
                self._tell(self._counts)
        except Exception:
            with suppress(DatabaseError, LeaseError):
                self._finish()
            raise
        self._finish()
        if self._streak.is_too_long:
            raise StoppedError([self._refusal()])
        return self._counts

    @property
    def refused(self) -> Counts:
        """How many emails were refused, by the state that their deliveries are in."""
        return self._refused

    def _step(self) -> bool:
        """Hear what has become of letters, write it down, hand out others; tell if there are."""
        self._hear(self._wait())
        limit = self._limit()
        if self._outcomes or (limit and not self._dry):
            self._turn(limit)
        if self._lines.in_flight or self._outcomes:
            return True
        if self._is_ending or (not self._lines.idle and self._is_through):
            return False
        if self._lines.is_dead and self._lines.lost:
            raise self._lines.lost
        if not self._dry:
            return True
        self._dry = False
        woken = self._work.wake()
        self._letters += woken
        return woken > 0

    @property
    def _is_through(self) -> bool:
        """Whether every letter has had its turn: for none of them is a new connection needed."""
        return self._counts.total() >= self._letters

    @property
    def _is_ending(self) -> bool:
        return self._streak.is_too_long or self._stopped()

    def _limit(self) -> int:
        """Return how many letters may be taken: each for a connection that waits for one."""
        return 0 if self._is_ending else min(self._lines.idle, self._pace.allowed)

    def _wait(self) -> float:
        """Return for how many seconds there is nothing to do but to listen."""
        self._pace = self._pace.reached(self._ticks())
        if self._outcomes or (self._limit() and not self._dry):
            return 0.0
        return min(_GLANCE, self._pace.wait) or _GLANCE

    def _hear(self, seconds: float) -> None:
        for answer in self._lines.poll(seconds):
            self._note(self._work.outcome(answer.outgoing.claim, answer.reply))
            self._streak = self._streak.after(answer.reply)

    def _note(self, outcome: DeliveryOutcome) -> None:
        self._outcomes.append(outcome)
        self._counts[outcome.state] += 1
        self._refused[outcome.state] += outcome.refused

    def _turn(self, limit: int) -> None:
        """Write down the outcomes, and hand out what may be taken."""
        if not limit:
            self._record()
            return
        claims = self._work.take(tuple(self._outcomes), limit)
        self._outcomes.clear()
        self._dry = len(claims) < limit
        self._pace = self._pace.spent(len(claims))
        self._hand_out(claims)

    def _hand_out(self, claims: Sequence[ClaimedDelivery]) -> None:
        waiting = list(reversed(claims))
        try:
            while waiting:
                outgoing = self._work.outgoing(waiting[-1])
                waiting.pop()
                if isinstance(outgoing, DeliveryOutcome):
                    self._note(outgoing)
                else:
                    self._lines.submit(outgoing)
        except Exception as error:
            # The server heard of none of them, and the next run need not wonder.
            why = f"not handed over: {type(error).__name__}"
            self._outcomes += [self._work.unsent(claim, why) for claim in waiting]
            raise

    def _record(self) -> None:
        if self._outcomes:
            self._work.record(tuple(self._outcomes))
            self._outcomes.clear()

    def _finish(self) -> None:
        """Let the open conversations come to their end, write it down, and hang up."""
        with ExitStack() as at_last:
            at_last.callback(self._lines.close)
            at_last.callback(self._insist)
            while self._lines.in_flight:
                self._hear(_GLANCE)
                self._tell(self._counts)

    def _insist(self) -> None:
        """Write down the last outcomes, also if the database is busy for a while.

        Raises `DatabaseError` if it stays so: the next run will call those letters uncertain.
        """
        for number, pause in enumerate(_RETRIES, 1):
            self._sleep(pause)
            try:
                self._record()
            except DatabaseError:
                if number == len(_RETRIES):
                    raise
            else:
                return

    def _refusal(self) -> Problem:
        streak = self._streak
        # Servers like to repeat the recipient's address, and the logs of jobs are read by many.
        what = (
            f"the mail server took none of the last {streak.affected} letters "
            f"and said: {mask_address(streak.said)}"
        )
        return Problem("send", message=what, hint="correct that, and run this again")
