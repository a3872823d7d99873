"""The markers of list items in plain text: decimal, alphabetic and Roman, as on a page."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from postroom.markdown.inline import Token, attributes_of

_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


@define
class ListNumbers:
    """Counts the items of a list; `kind` is the type of an `ol`, and empty for an `ul`."""

    kind: str
    number: int = 1
    step: int = 1

    @classmethod
    def of(cls, tokens: Sequence[Token], position: int) -> ListNumbers:
        """Return the counter of the list whose tag is at `position`."""
        _, name, written, _ = tokens[position]
        if name == "ul":
            return cls("")
        attributes = attributes_of(written)
        kind, start = attributes.get("type", "1"), _integer(attributes.get("start", ""))
        if "reversed" not in attributes:
            return cls(kind, 1 if start is None else start)
        # HTML Living Standard §4.4.5: a reversed list begins with the number of its items.
        return cls(kind, _count_items(tokens, position) if start is None else start, -1)

    def marker(self, attributes: str) -> str:
        """Return the marker of the next item, such as `4. ` or `- `, and count it."""
        if not self.kind:
            return "- "
        value = _integer(attributes_of(attributes).get("value", "")) if attributes else None
        number = self.number if value is None else value
        self.number = number + self.step
        return f"{_format(number, self.kind)}. "


def _integer(written: str) -> int | None:
    digits = written.strip()[:10]
    return int(digits) if digits.removeprefix("-").isdecimal() else None


def _count_items(tokens: Sequence[Token], position: int) -> int:
    depth = count = 0
    for closing, name, _, _ in tokens[position:]:
        if name in {"ol", "ul"}:
            depth += -1 if closing else 1
            if not depth:
                break
        elif name == "li" and not closing and depth == 1:
            count += 1
    return count


def _format(number: int, kind: str) -> str:
    # CSS Counter Styles §7.1: numbers outside the range of a style are decimal.
    if kind in {"a", "A"} and number > 0:
        written = _alphabetic(number)
    elif kind in {"i", "I"} and 0 < number < 4000:
        written = _roman(number)
    else:
        return str(number)
    return written.upper() if kind.isupper() else written


def _alphabetic(number: int) -> str:
    written = ""
    while number:
        number, place = divmod(number - 1, 26)
        written = chr(ord("a") + place) + written
    return written


def _roman(number: int) -> str:
    written = ""
    for value, numeral in _ROMAN:
        count, number = divmod(number, value)
        written += numeral * count
    return written
