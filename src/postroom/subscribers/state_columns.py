"""Find the columns of a CSV file that tell who gets emails, and read the states in their cells.

Each program names these columns in its own way, so a name is understood by its parts: case, spaces,
hyphens and underscores do not count. A name that is not understood, but speaks of unsubscribing,
bounces or the like, is doubtful: a file that has such a column must be refused, as ignoring it may
send emails to people who must not get any.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from postroom.models import State

_STOPPED: tuple[State, ...] = ("unsubscribed", "bounced", "complained")
_LONGEST_NAME = 100


class CellError(ValueError):
    """A cell that cannot be imported; the text of the error says why."""


def worse_state(state: State) -> int:
    """Return the rank of `state`: 0 is active, and the highest rank forbids emails most strictly.

    If a file has several states for one address, the state with the highest rank counts.
    """
    return (*("active", "paused", "pending"), *_STOPPED).index(state)


def is_stopped(state: State | None) -> bool:
    """Tell whether `state` is unsubscribed, bounced or complained.

    A subscriber in one of these states gets no emails without a new confirmation.
    """
    return state in _STOPPED


def compact_name(name: str) -> str:
    """Return the letters and digits of a column's name, in lower case and without accents.

    `doNotContact`, `Do not contact` and `DO_NOT_CONTACT` are one name.
    """
    folded = unicodedata.normalize("NFKD", name[:_LONGEST_NAME]).casefold()
    return "".join(character for character in folded if character.isalnum())


# Cells.

_BLANK = frozenset(["", "-", "--", "\N{EN DASH}", "\N{EM DASH}", r"\N"])
_NULL = frozenset("null none nil na nan".split())
# Spreadsheets write TRUE and FALSE in their own language.
_YES = "1 true yes y t on x \N{CHECK MARK} \N{HEAVY CHECK MARK} wahr ja vrai oui vero si".split()
_NO = "0 false no n f off never falsch nein faux non falso".split()
_DATE = re.compile(r"(?:19|20)\d\d|\d[./-]\d\d?[./-]\d\d|^\d{9,13}$")
# RFC 3463 §3.2: the address is wrong.
_BAD_ADDRESS = re.compile(r"5\.1\.\d{1,3}")

_WORDS: Mapping[str, State | None] = {
    **dict.fromkeys(
        "active subscribed confirmed regular premium gifted trialed churning".split(), "active"
    ),
    # "enabled" of listmonk and Mailman does not mean that somebody confirmed.
    "enabled": None,
    "paused": "paused",
    **dict.fromkeys(
        "pending unconfirmed notconfirmed unactivated validating needsattention neversubscribed"
        " nonsubscribed notsubscribed".split(),
        "pending",
    ),
    **dict.fromkeys(
        "unsubscribed unsubscribe unsub optedout optout disabled blocklisted blacklisted blocked"
        " archived removed deleted deactivated inactive cancelled canceled suppressed donotcontact"
        " donotemail spammy byuser bymoderator".split(),
        "unsubscribed",
    ),
    **dict.fromkeys(
        "bounced bounce hardbounced hardbounce cleaned undeliverable invalid bybounces".split(),
        "bounced",
    ),
    **dict.fromkeys("complained complaint spam junk abuse".split(), "complained"),
}


@frozen
class Meaning:
    """The meaning of the cells of a column.

    `words` are the words that a cell may hold, compacted as names are. `date` is what a date means,
    `text` what any other text means; a cell that may be neither is an error. The value of a word or
    a date that says nothing about the state is None.
    """

    words: Mapping[str, State | None]
    date: State | None = None
    takes_dates: bool = False
    text: State | None = None

    def read(self, cell: str) -> State | None:
        """Return the state that `cell` tells, None if it tells none.

        Raises `KeyError` if the cell is not understood.
        """
        word = compact_name(cell.removesuffix(".0")) or cell
        if cell in _BLANK or word in _NULL:
            return None
        # MySQL writes an absent date as 0000-00-00.
        word = word if word.strip("0") else "0"
        if word in self.words:
            return self.words[word]
        if self.takes_dates and _DATE.search(cell):
            return self.date
        return self._by_text(cell, word)

    def _by_text(self, cell: str, word: str) -> State | None:
        if _BAD_ADDRESS.fullmatch(cell):
            return "bounced"
        if self.text is None:
            raise KeyError(word)
        if re.search("abuse|spam|complain|junk", word):
            return "complained"
        return "bounced" if re.search("bounce|undeliver", word) else self.text


def _flag(yes: State | None, no: State | None = None, **words: State | None) -> Meaning:
    """Return the meaning of a column of yes and no, or of dates, which mean yes."""
    answers = {**dict.fromkeys(_YES, yes), **dict.fromkeys(_NO, no), **words}
    return Meaning(answers, date=yes, takes_dates=True)


def _reason(state: State) -> Meaning:
    """Return the meaning of a column that holds a text if the person has `state`."""
    return Meaning(dict.fromkeys(_NO), date=state, takes_dates=True, text=state)


# Names.

_MAIL = "e?mail"
_TOPIC = (
    "is|has|was|are|the|of|date|time|user|account|subscriber|subscription|contact|member|globally"
    f"|global|thissubscriber|thisuser|thisaccount|{_MAIL}"
)
_ABOUT = f"(?:{_TOPIC}|{_MAIL}s)*"
# "Emails bounced" is a number.
_ABOUT_ONE = f"(?:{_TOPIC})*"
_WHEN = rf"(?:at|on|date|time|stamp|flag|{_MAIL}s?)*"
_UNSUBSCRIBED = (
    "unsub(?:s|bed|scribed?|scription)?(?:from(?:all)?)?|opt(?:ed)?out(?:of(?:all)?)?"
    rf"|do(?:not|nt)(?:contact|{_MAIL}|send)|dnc|no(?:more)?{_MAIL}s?|bl(?:ack|ock)list(?:ed)?|blocked"
    "|suppress(?:ed|ion)|disabled|deactivated|deleted|archived|inactive|excluded|revoked"
    "|abgemeldet|abbestellt|ausgetragen|gesperrt|desabonnee?|desinscrite?|uitgeschreven|afgemeld"
)
_BOUNCED = "(?:hard)?bounced?|cleaned|clean(?=time|date)|undeliverab(?:le|ility)|invalid"
_COMPLAINED = "complain(?:ed|t)|spam(?:complaint|report|reported|med)?|markedasspam|abuse"

_NAMES: tuple[tuple[re.Pattern[str], Meaning], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (f"{_ABOUT}(?:{_UNSUBSCRIBED}){_WHEN}", _flag("unsubscribed")),
        (f"{_ABOUT_ONE}(?:{_BOUNCED}){_WHEN}", _flag("bounced")),
        (f"{_ABOUT_ONE}(?:{_COMPLAINED}){_WHEN}", _flag("complained")),
        (f"{_ABOUT}confirm(?:ed|ation)?{_WHEN}", _flag("active", "pending")),
        (f"{_ABOUT}(?:verified|validated|activated){_WHEN}", _flag(None, "pending")),
        (f"{_ABOUT}(?:marketing)?opt(?:ed)?in", _flag("active", "pending")),
        # Without a double opt-in, there may have been a single one. Brevo writes 2 for no.
        (f"{_ABOUT}(?:doubleoptin|doi){_WHEN}", _flag("active", None, **{"2": None})),
        (f"{_ABOUT}(?:marketing)?consent(?:ed|given)?", _flag("active", "pending", **_WORDS)),
        (
            rf"{_ABOUT}subscribed(?:to)?(?:{_MAIL}s?|newsletters?)?",
            # MailerLite writes the date here, also if the person unsubscribed later.
            Meaning(
                {**_flag("active", "unsubscribed").words, **_WORDS}, date=None, takes_dates=True
            ),
        ),
        (
            rf"newsletters?|accepts(?:{_MAIL})?marketing",
            _flag("active", "unsubscribed"),
        ),
        (f"{_ABOUT}(?:active|enabled|allowed)", _flag(None, "unsubscribed", **_WORDS)),
        (f"{_ABOUT}deliverable", _flag(None, "bounced")),
        (f"(?:{_TOPIC}|list|newsletter|delivery|marketing)*stat(?:us|e)", Meaning(_WORDS)),
        # In Buttondown, "paused" pauses payments, not emails.
        ("(?:subscriber)?type", Meaning({**_WORDS, "paused": "active"})),
        # Mautic numbers the reasons: unsubscribed, bounced, manual.
        (
            f"{_ABOUT}dncreasons?",
            Meaning(
                {**dict.fromkeys(_NO), "1": "unsubscribed", "2": "bounced"}, text="unsubscribed"
            ),
        ),
    )
)

_STEM = (
    r"unsub|opt(?:ed)?out|bounc|bl(?:ack|ock)list|blocked|^(?:is|has)?dnc|dnc$|do(?:not|nt)"
    rf"|no(?:more)?{_MAIL}|suppress|disabled|deactivat|complain|spam|abuse|undeliver|invalid"
    "|cleaned|excluded|revoked|withdr[ae]w|quarantin|abgemeld|abbestell|ausgetrag|gesperrt|sperrlist"
    "|desabonn|desinscri|disiscri|uitgeschrev|afgemeld"
)
_STOP_STEM = re.compile(_STEM)
_DOUBTFUL = re.compile(rf"{_STEM}|deliver|status|consent|receiv(?:es|ing){_MAIL}")
_DETAIL = re.compile(r".*(?:reasons?(?:other)?|campaign(?:id|title|name)?|comments?|feedback)")
_HARMLESS = re.compile(
    r"(?:numberof|noof|total(?!ly)).*"
    rf"|{_ABOUT}(?:(?:hard|soft)?bounces?|complaints?|unsubscribes?|delivered)(?:rate|counts?|total)"
    r"|(?:unsub(?:scribe)?|optout)(?:url|uri|link|href|token|hash)"
    r"|delivered(?:at|on)?|deliveries|delivery(?:mode|type|method|frequency|address|street|city|zip)"
    r"|.*(?:status|consent)(?:date|time|timestamp|at|ip|source|method|changed|updated)+"
    # Brevo and others tell about other channels, too.
    rf"|(?:is|has|donot)?(?:sms|whatsapp|phone|push|fax|call)(?!.*{_MAIL}).*"
    # phpList: people whom an administrator added did not confirm themselves.
    r"|didthis(?:subscriber|user)manuallyconfirm"
)


@frozen
class StateColumn:
    """A column that tells the state of subscribers: its index from 0, name and meaning."""

    index: int
    name: str
    meaning: Meaning

    def read(self, cell: str) -> State | None:
        """Return the state in `cell`, None if there is none; raises `CellError`."""
        try:
            return self.meaning.read(cell)
        except KeyError:
            kind = "neither yes, no nor a date" if self.meaning.takes_dates else "not a known state"
            found = f"'{cell[:40]}' in column '{self.name}' is {kind}"
            hint = (
                f"correct it, or pass --ignore-column '{self.name}' if that column does not tell"
                " who gets emails"
            )
            raise CellError(f"{found}; {hint}") from None


def find_meaning(name: str) -> Meaning | None:
    """Return the meaning of the column called `name`, None if it tells no state as far as known."""
    compact = compact_name(name)
    for pattern, meaning in _NAMES:
        if pattern.fullmatch(compact):
            return meaning
    if _HARMLESS.fullmatch(compact):
        return None
    if _STOP_STEM.search(compact) and _DETAIL.fullmatch(compact) and "soft" not in compact:
        return _reason("bounced" if re.search("bounc|undeliver|clean", compact) else "unsubscribed")
    return None


def is_doubtful(name: str) -> bool:
    """Tell whether the column called `name` may tell who gets no emails, in an unknown way."""
    compact = compact_name(name)
    return bool(
        find_meaning(name) is None
        and _DOUBTFUL.search(compact)
        and not _HARMLESS.fullmatch(compact)
    )


def find_state_columns(header: Iterable[tuple[int, str]]) -> tuple[StateColumn, ...]:
    """Return the columns that tell states, of those with the indexes and names in `header`."""
    found = ((index, name.strip(), find_meaning(name)) for index, name in header)
    return tuple(
        StateColumn(index, name[:40], meaning) for index, name, meaning in found if meaning
    )


def read_state(columns: Iterable[StateColumn], cells: Sequence[str]) -> State | None:
    """Return the worst state in a row (see `worse_state`), None if no column tells one.

    Raises `CellError` for a cell that is not understood, unless another cell tells that the
    subscriber has stopped.
    """
    states: list[State | None] = []
    errors: list[CellError] = []
    for column in columns:
        try:
            states.append(column.read(cells[column.index].strip()))
        except CellError as error:
            errors.append(error)
    worst = max((state for state in states if state), key=worse_state, default=None)
    if errors and not is_stopped(worst):
        raise errors[0]
    return worst
