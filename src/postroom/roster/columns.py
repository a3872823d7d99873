"""Which column says what, in our own export and in those of other programs.

Columns are known by their names. A column that is not known is not read: names, notes and tags of
other programs do not enter the database.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import get_args

from attrs import frozen

from postroom.model import Frequency, State, Subscriber
from postroom.schema import is_language

OWN = (
    "address",
    "state",
    "frequency",
    "topics",
    "language",
    "before",
    "upto",
    "start",
    "letters",
    "token",
)
"""The columns of our own export; with them a subscriber comes back as they were."""

# Mailchimp's "Address" is a postal one, so the plainer names come first.
_ADDRESSES = ("email_address", "email", "e_mail", "e_mail_address", "mail", "address")
_STOPPED: tuple[State, ...] = ("left", "bounced", "complained")

_ACTIVE: Mapping[str, State] = dict.fromkeys(
    "active subscribed confirmed regular premium gifted trialed churning".split(), "active"
)
_LEFT: Mapping[str, State] = dict.fromkeys(
    "left unsubscribed disabled blocklisted archived removed blocked spammy".split(), "left"
)
_WORDS: Mapping[str, State] = {
    **_ACTIVE,
    **_LEFT,
    **dict.fromkeys("pending unconfirmed unactivated".split(), "pending"),
    **dict.fromkeys("bounced cleaned undeliverable".split(), "bounced"),
    "complained": "complained",
    "paused": "paused",
}
# listmonk's "enabled" says that an account is not switched off; who confirmed what is not exported.
_SILENT = frozenset({"", "enabled"})
# Buttondown's "paused" pauses a payment, not the letters.
_STATES: Mapping[str, Mapping[str, State]] = {
    "state": {word: word for word in get_args(State)},
    "status": _WORDS,
    "subscriber_type": {**_WORDS, "paused": "active"},
    "type": {**_WORDS, "paused": "active"},
    "subscribed_to_emails": {"true": "active", "false": "left"},
    "subscribed": {"true": "active", "false": "left", "yes": "active", "no": "left"},
}


class CellError(ValueError):
    """A cell that cannot be taken; its text is a sentence that says why."""


@frozen
class Row:
    """What one line says: an address, a state or none, and what else is there of our own."""

    address: str
    state: State | None
    values: Mapping[str, str]


@frozen
class Layout:
    """Where what stands in a file."""

    address: int
    state: tuple[str, int] | None
    times: Mapping[str, int]
    own: Mapping[str, int]

    @property
    def says_states(self) -> bool:
        """Whether any column tells a state."""
        return bool(self.state or self.times)

    def read(self, cells: Sequence[str]) -> Row:
        """Return what a line says.

        Raises `CellError` for a state that is not known.
        """
        own = {name: _cell(cells, index) for name, index in self.own.items()}
        return Row(
            _cell(cells, self.address),
            self._state(cells),
            {name: value for name, value in own.items() if value},
        )

    def _state(self, cells: Sequence[str]) -> State | None:
        """Return the worst of what the columns say: who left in one of them has left."""
        states = [_by_times(self.times, cells)]
        if self.state:
            column, index = self.state
            states.append(_by_word(column, _cell(cells, index)))
        return max((state for state in states if state), key=worse, default=None)


def layout(header: Sequence[str]) -> Layout | None:
    """Return where what stands, by the names of the columns; None where none is of addresses."""
    places: dict[str, int] = {}
    for index, name in enumerate(header):
        places.setdefault(re.sub(r"[\s-]+", "_", name.strip().casefold()), index)
    address = next((name for name in _ADDRESSES if name in places), None)
    if address is None:
        return None
    state = next(((name, places[name]) for name in _STATES if name in places), None)
    times = ("unsub_time", "unsub_reason", "clean_time", "confirm_time")
    # Other programs have columns of these names that mean something else.
    ours = "token" in places and "upto" in places
    own = OWN[2:] if ours else ("frequency", "topics", "language")
    return Layout(
        places[address],
        state,
        {name: places[name] for name in times if name in places},
        {name: places[name] for name in own if name in places},
    )


def worse(state: State) -> int:
    """Return how far a state is from receiving; the greater one wins where a file says two."""
    return (*("active", "paused", "pending"), *_STOPPED).index(state)


def is_stopped(state: State | None) -> bool:
    """Tell whether nobody in this state receives anything, until they confirm anew."""
    return state in _STOPPED


def _cell(cells: Sequence[str], index: int) -> str:
    return cells[index].strip() if index < len(cells) else ""


def _by_word(column: str, word: str) -> State | None:
    folded = word.casefold()
    if folded in _SILENT:
        return None
    state = _STATES[column].get(folded)
    if state is None:
        raise CellError(f"'{word[:40]}' in column '{column}' is no state that is known")
    return state


def _by_times(times: Mapping[str, int], cells: Sequence[str]) -> State | None:
    """Return the state that Mailchimp's columns of times and reasons tell."""
    said = {name: _cell(cells, index) for name, index in times.items()}
    if re.search("abuse|spam", said.get("unsub_reason", ""), re.IGNORECASE):
        return "complained"
    if said.get("clean_time"):
        return "bounced"
    if said.get("unsub_time"):
        return "left"
    return "active" if said.get("confirm_time") else None


def written(subscriber: Subscriber) -> tuple[str, ...]:
    """Return the cells of `OWN` for a subscriber."""
    return (
        subscriber.address,
        subscriber.state,
        subscriber.frequency,
        _joined(sorted(subscriber.topics)),
        subscriber.language,
        subscriber.bookmark.before.isoformat(),
        str(subscriber.bookmark.upto),
        subscriber.start.isoformat(),
        str(subscriber.letters),
        subscriber.token,
    )


def _joined(words: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(words)
    return line.getvalue()


def words(cell: str) -> frozenset[str]:
    """Return the words of a cell that lists them with commas, in quotes where one holds a comma."""
    try:
        found = next(csv.reader([cell], skipinitialspace=True, strict=True), [])
    except csv.Error:
        what = f"the topics '{cell[:40]}' have a line break or a quote that does not end"
        raise CellError(what) from None
    return frozenset(word.strip() for word in found if word.strip())


def frequency(cell: str) -> Frequency:
    """Return the frequency that a cell names."""
    for known in get_args(Frequency):
        if cell.casefold() == known:
            return known  # type: ignore[no-any-return]
    raise CellError(f"'{cell[:40]}' is no frequency; write post, day, week or month")


def language(cell: str) -> str:
    """Return the language tag in a cell (RFC 5646)."""
    if not is_language(cell):
        raise CellError(f"'{cell[:40]}' is no language; write one such as en or en-US")
    return cell


def day(cell: str) -> date:
    """Return the date in a cell (ISO 8601)."""
    try:
        return date.fromisoformat(cell)
    except ValueError:
        raise CellError(f"'{cell[:40]}' is no date; write one such as 2026-11-22") from None


def number(cell: str) -> int:
    """Return the count in a cell."""
    if not re.fullmatch(r"[0-9]{1,15}", cell):
        raise CellError(f"'{cell[:40]}' is no number")
    return int(cell)


def token(cell: str) -> str:
    """Return the token in a cell."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{22}", cell):
        raise CellError("its token is none of ours; leave the cell empty for a new one")
    return cell
