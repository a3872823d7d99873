"""The translations of the theme, with dates and plural forms in the language of a site."""

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
    """The texts of the theme in one language, as attributes: `contact` heads the contact block."""

    language: str
    texts: Mapping[str, str]
    _locale: Locale = field(repr=False)

    def __getattr__(self, name: str) -> str:
        try:
            return self.texts[name]
        except KeyError:
            raise AttributeError(f"'{self.language}' has no translation '{name}'") from None

    @property
    def direction(self) -> str:
        """The text direction of the language: `rtl` or `ltr`."""
        return _direction(self._locale)

    def direction_of(self, tag: str) -> str:
        """Return the text direction of the language `tag`; "" is the language of the texts."""
        return _direction(_locale(tag)) if tag else self.direction

    def date(self, day: datetime.date) -> str:
        """Return `day` in long form: 22 November 2026."""
        return str(format_date(day, "long", locale=self._locale))

    def period(self, every: DigestFrequency, first: datetime.date, last: datetime.date) -> str:
        """Return the name of a period: a month, a day, or the first and last day of several."""
        if every == "month":
            return str(format_skeleton("yMMMM", first, locale=self._locale))
        if first == last:
            return self.date(first)
        return f"{self.date(first)} – {self.date(last)}"  # noqa: RUF001 - a range

    def language_name(self, tag: str) -> str:
        """Return the name of the language `tag` in that language itself: Deutsch, 中文."""
        locale = _locale(tag)
        return str(locale.get_display_name() or tag) if locale.language in tag else tag

    def count(self, name: str, number: int) -> str:
        """Return the translation `name` in the plural form of `number`, such as `3 posts`."""
        form = self._locale.plural_form(number)
        return self.texts.get(f"{name}_{form}", self.texts[f"{name}_other"]).format(number)


def load_translations(language: str, sources: Iterable[Mapping[str, Any]]) -> Translations:
    """Return the translations of `language` (a tag of RFC 5646); later sources take precedence."""
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
    raise AssertionError("Babel always knows English")
