"""The theme's words and dates in a newsroom's language."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_skeleton

from postroom.models import DigestFrequency


@frozen
class Translations:
    """The words of one language; `words.contact` is the word for the contact block."""

    language: str
    texts: Mapping[str, str]
    _locale: Locale = field(repr=False)

    def __getattr__(self, name: str) -> str:
        try:
            return self.texts[name]
        except KeyError:
            raise AttributeError(f"no word '{name}' in the words of '{self.language}'") from None

    @property
    def direction(self) -> str:
        """`rtl` for languages that are written from right to left, else `ltr`."""
        return _direction(self._locale)

    def direction_of(self, tag: str) -> str:
        """Return the direction of the language `tag`; no tag means this language."""
        return _direction(_locale(tag)) if tag else self.direction

    def date(self, day: datetime.date) -> str:
        """Return `day` written out: 22 November 2026."""
        return str(format_date(day, "long", locale=self._locale))

    def period(self, every: DigestFrequency, first: datetime.date, last: datetime.date) -> str:
        """Return the name of a period: November 2026, a week's two ends, or a day."""
        if every == "month":
            return str(format_skeleton("yMMMM", first, locale=self._locale))
        if every == "week":
            return f"{self.date(first)} – {self.date(last)}"  # noqa: RUF001 - a range
        return self.date(first)

    def language_name(self, tag: str) -> str:
        """Return the name of the language `tag` in that language itself: Deutsch, 中文."""
        locale = _locale(tag)
        return str(locale.get_display_name() or tag) if locale.language in tag else tag

    def count(self, name: str, number: int) -> str:
        """Return `3 posts`: the word for the plural form of `number` with the number put in."""
        form = self._locale.plural_form(number)
        return self.texts.get(f"{name}_{form}", self.texts[f"{name}_other"]).format(number)


def load_translations(language: str, sources: Iterable[Mapping[str, Any]]) -> Translations:
    """Return the words of `language` (a tag of RFC 5646); later sources go before earlier ones."""
    texts: dict[str, str] = {}
    for source in sources:
        texts.update({name: str(text) for name, text in source.items()})
    return Translations(language, texts, _locale(language))


def _direction(locale: Locale) -> str:
    return "rtl" if locale.character_order == "right-to-left" else "ltr"


def _locale(language: str) -> Locale:
    for tag in (language, language.split("-", maxsplit=1)[0], "en"):
        try:
            return Locale.parse(tag, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    raise AssertionError("Babel knows English")
