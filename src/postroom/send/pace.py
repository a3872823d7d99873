"""How fast letters may leave: a token bucket, as relays count."""

from __future__ import annotations

from attrs import frozen

# So much of a second's letters may leave at once; a relay's own count is no finer.
_BURST = 0.1


@frozen
class Pace:
    """A rate in letters a second, and how many may leave at the instant `at` of a steady clock."""

    rate: float
    at: float
    tokens: float = 1.0

    def reached(self, now: float) -> Pace:
        """Return the pace at the later instant `now`."""
        most = max(1.0, self.rate * _BURST)
        return Pace(self.rate, now, min(most, self.tokens + (now - self.at) * self.rate))

    def spent(self, letters: int) -> Pace:
        """Return the pace after so many letters."""
        return Pace(self.rate, self.at, self.tokens - letters)

    @property
    def allowed(self) -> int:
        """How many letters may leave now."""
        return int(self.tokens)

    @property
    def wait(self) -> float:
        """How many seconds there are until the next may leave."""
        return max(0.0, 1.0 - self.tokens) / self.rate
