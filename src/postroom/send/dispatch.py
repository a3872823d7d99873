"""Claim deliveries, submit their messages at a limited rate, and record their outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress

from attrs import frozen

from postroom.errors import DatabaseError, LeaseError, Problem, StoppedError
from postroom.mail.address import mask_address
from postroom.models import ClaimedDelivery, DeliveryOutcome, DeliveryState
from postroom.send.outcomes import CircuitBreaker
from postroom.send.pool import ConnectionPool, Transport
from postroom.send.queue import PlannedQueue

# The share of a second's emails that may go out at once; relays do not count more finely.
_BURST = 0.1
# Pauses in seconds between attempts to record the last outcomes in a failing database.
_RETRIES = (0.0, 1.0, 2.0, 4.0, 8.0)
# Seconds that may pass before a signal is noticed.
_SIGNAL_INTERVAL = 0.2


@frozen
class RateLimiter:
    """A token bucket that gains `rate` tokens a second; each email takes one token.

    The bucket held `tokens` at the time `at`, in seconds of a monotonic clock.
    """

    rate: float
    at: float
    tokens: float = 1.0

    def refill(self, now: float) -> RateLimiter:
        """Return the bucket as it is at the later time `now`, with the tokens gained since."""
        most = max(1.0, self.rate * _BURST)
        return RateLimiter(self.rate, now, min(most, self.tokens + (now - self.at) * self.rate))

    def spend(self, emails: int) -> RateLimiter:
        """Return the bucket without the tokens for this number of emails."""
        return RateLimiter(self.rate, self.at, self.tokens - emails)

    @property
    def allowed(self) -> int:
        """The number of emails that may go out now."""
        return int(self.tokens)

    @property
    def wait(self) -> float:
        """The seconds until the next email may go out."""
        return max(0.0, 1.0 - self.tokens) / self.rate


Counts = Mapping[DeliveryState, int]
"""The number of deliveries of a run that have an outcome so far, by their new state."""


class Dispatcher:
    """Sends the deliveries of a queue over a connection pool, and records their outcomes."""

    def __init__(  # noqa: PLR0913 - tests replace each of them
        self,
        queue: PlannedQueue,
        transport: Transport,
        *,
        is_stopped: Callable[[], bool] = lambda: False,
        report: Callable[[Counts], None] = lambda _: None,
        ticks: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to send `queue`; `run` ends when it is empty or `is_stopped` returns true.

        `report` is called repeatedly with the counts so far. `ticks` is a monotonic clock in
        seconds.
        """
        self._queue = queue
        self._pool = ConnectionPool(transport, ticks)
        self._is_stopped, self._report = is_stopped, report
        self._ticks, self._sleep = ticks, sleep
        self._limiter = RateLimiter(transport.rate, ticks())
        self._outcomes: list[DeliveryOutcome] = []
        self._counts: Counter[DeliveryState] = Counter()
        self._refused: Counter[DeliveryState] = Counter()
        self._breaker = CircuitBreaker()
        self._expected = 0
        self._is_empty = False

    def run(self, emails: int) -> Counts:
        """Send the deliveries of the queue; return their number by state.

        `emails` is the number of deliveries that the queue is expected to hold. Before an error is
        raised, open SMTP transactions are finished and their outcomes recorded, as far as the
        database allows; only a second Ctrl-C interrupts that. Raises `RelayError` if no connection
        can be opened, `StoppedError` if the circuit breaker opens, `LeaseError` if the run has lost
        its lease, and `DatabaseError`.
        """
        self._expected = emails
        try:
            self._pool.open(emails, self._is_stopped, _SIGNAL_INTERVAL)
            while self._step():
                self._report(self._counts)
        except Exception:
            with suppress(DatabaseError, LeaseError):
                self._finish()
            raise
        self._finish()
        if self._breaker.is_open:
            raise StoppedError([self._refusal()])
        return self._counts

    @property
    def refused(self) -> Counts:
        """The number of emails that were refused permanently, by the state of their deliveries."""
        return self._refused

    def _step(self) -> bool:
        """Receive replies, record their outcomes and submit more messages.

        Return False when the run is complete or must end.
        """
        self._receive(self._seconds_to_wait())
        limit = self._limit()
        if self._outcomes or (limit and not self._is_empty):
            self._record_and_submit(limit)
        if self._pool.in_flight or self._outcomes:
            return True
        if self._is_ending or (not self._pool.idle and self._is_through):
            return False
        if self._pool.is_dead and self._pool.last_error:
            raise self._pool.last_error
        if not self._is_empty:
            return True
        self._is_empty = False
        retried = self._queue.retry_deferred()
        self._expected += retried
        return retried > 0

    @property
    def _is_through(self) -> bool:
        """Whether every delivery has an outcome, so that no new connection is needed."""
        return self._counts.total() >= self._expected

    @property
    def _is_ending(self) -> bool:
        return self._breaker.is_open or self._is_stopped()

    def _limit(self) -> int:
        """Return how many deliveries may be claimed now: at most one for each idle connection."""
        return 0 if self._is_ending else min(self._pool.idle, self._limiter.allowed)

    def _seconds_to_wait(self) -> float:
        """Return for how many seconds to wait for replies, 0 if there is something else to do."""
        self._limiter = self._limiter.refill(self._ticks())
        if self._outcomes or (self._limit() and not self._is_empty):
            return 0.0
        return min(_SIGNAL_INTERVAL, self._limiter.wait) or _SIGNAL_INTERVAL

    def _receive(self, seconds: float) -> None:
        for completed in self._pool.poll(seconds):
            self._note(self._queue.outcome(completed.outgoing.claim, completed.reply))
            self._breaker = self._breaker.after(completed.reply)

    def _note(self, outcome: DeliveryOutcome) -> None:
        self._outcomes.append(outcome)
        self._counts[outcome.state] += 1
        self._refused[outcome.state] += outcome.refused

    def _record_and_submit(self, limit: int) -> None:
        """Record the outcomes, then claim and submit up to `limit` deliveries."""
        if not limit:
            self._record()
            return
        claims = self._queue.claim(tuple(self._outcomes), limit)
        self._outcomes.clear()
        self._is_empty = len(claims) < limit
        self._limiter = self._limiter.spend(len(claims))
        self._submit(claims)

    def _submit(self, claims: Sequence[ClaimedDelivery]) -> None:
        waiting = list(reversed(claims))
        try:
            while waiting:
                outgoing = self._queue.make_message(waiting[-1])
                waiting.pop()
                if isinstance(outgoing, DeliveryOutcome):
                    self._note(outgoing)
                else:
                    self._pool.submit(outgoing)
        except Exception as error:
            # The server got none of them, so they must not become uncertain.
            reason = f"not submitted: {type(error).__name__}"
            self._outcomes += [self._queue.unsent_outcome(claim, reason) for claim in waiting]
            raise

    def _record(self) -> None:
        if self._outcomes:
            self._queue.record(tuple(self._outcomes))
            self._outcomes.clear()

    def _finish(self) -> None:
        """Finish open SMTP transactions, record their outcomes, and close the connections."""
        with ExitStack() as stack:
            stack.callback(self._pool.close)
            stack.callback(self._record_with_retries)
            while self._pool.in_flight:
                self._receive(_SIGNAL_INTERVAL)
                self._report(self._counts)

    def _record_with_retries(self) -> None:
        """Record the last outcomes, even if the database is busy for a while.

        Raises `DatabaseError` if all attempts fail; the next run then marks the deliveries without
        a recorded outcome as uncertain.
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
        # Servers often repeat the recipient's address, and many people can read the logs of jobs.
        reply = mask_address(self._breaker.last_reply)
        message = (
            f"the mail server accepted none of the last {self._breaker.affected} emails; "
            f"its last reply is: {reply}"
        )
        return Problem("send", message=message, hint="correct the cause, then run send again")
