"""Translations of the theme, in every language."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from string import Formatter

import pytest
from babel import Locale

from postroom.settings import validation
from postroom.settings.yaml_reader import parse
from postroom.theme.environment import THEME_FOLDER, Theme
from postroom.theme.i18n import Translations, load_translations

LANGUAGES = sorted(path.stem for path in (THEME_FOLDER / "translations").glob("*.yaml"))
PLURAL = re.compile(r"(.+)_(zero|one|two|few|many|other)")
DAY = date(2026, 11, 5)


def texts(language: str) -> dict[str, str]:
    """Return the translations in the file of the theme for a language."""
    text = (THEME_FOLDER / f"translations/{language}.yaml").read_text("utf-8")
    return validation.mapping(validation.text)(parse(text, limit=64 * 1024))


def plain_names(language: str) -> set[str]:
    """Return the keys of a language that have no plural forms."""
    return {name for name in texts(language) if not PLURAL.fullmatch(name)}


def plural_forms(language: str) -> dict[str, set[str]]:
    """Return the plural forms of each key that has them."""
    forms: dict[str, set[str]] = {}
    for name in texts(language):
        if found := PLURAL.fullmatch(name):
            forms.setdefault(found[1], set()).add(found[2])
    return forms


def fields(text: str) -> list[str | None]:
    """Return the names of the format fields in `text`."""
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def of_theme(language: str, site_dir: Path) -> Translations:
    """Return the translations for a site in this language."""
    return Theme(site_dir, language).translations


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_key(language: str) -> None:
    """Every language has exactly the keys of English."""
    assert plain_names(language) == plain_names("en")
    assert plural_forms(language).keys() == plural_forms("en").keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_plural_forms_it_uses(language: str) -> None:
    """Keys with plural forms have only forms of their language, and always `other`."""
    known = set(Locale.parse(language).plural_form.tags) | {"other"}
    for name, forms in plural_forms(language).items():
        assert forms <= known, name
        assert "other" in forms, name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_fields(language: str) -> None:
    """A translation has the format fields of the English text, and is never empty."""
    english, own = texts("en"), texts(language)
    for name, text in own.items():
        assert text, name
        plural = PLURAL.fullmatch(name)
        if not plural:
            assert fields(text) == fields(english[name]), name
        elif plural[2] == "other":
            assert fields(text) == fields(english[f"{plural[1]}_other"]), name


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 11, 21, 100, 1_000_000])
def test_every_number_can_be_counted(tmp_path: Path, language: str, number: int) -> None:
    """Every key with plural forms has a text for every number."""
    found = of_theme(language, tmp_path)
    for name in plural_forms("en"):
        text = found.count(name, number)
        assert text
        assert "{" not in text
        assert number < 3 or str(number) in text


SAMPLES = {
    "posts_one": "{} post",
    "posts_other": "{} posts",
    "files_few": "{} pliki",
    "files_many": "{} plików",
    "files_one": "{} plik",
    "files_other": "{} pliku",
}


@pytest.mark.parametrize(
    ("language", "name", "number", "text"),
    [
        ("en", "posts", 0, "0 posts"),
        ("en", "posts", 1, "1 post"),
        ("en", "posts", 2, "2 posts"),
        ("fr", "posts", 0, "0 post"),
        ("ja", "posts", 1, "1 posts"),
        ("pl", "files", 1, "1 plik"),
        ("pl", "files", 3, "3 pliki"),
        ("pl", "files", 5, "5 plików"),
        ("pl", "files", 22, "22 pliki"),
        # A number without a form of its own takes the form `other`.
        ("pl", "posts", 3, "3 posts"),
    ],
)
def test_a_number_takes_its_plural_form(language: str, name: str, number: int, text: str) -> None:
    """The text follows the plural rules of the language (CLDR)."""
    assert load_translations(language, [SAMPLES]).count(name, number) == text


@pytest.mark.parametrize(
    ("language", "direction"),
    [
        ("en", "ltr"),
        ("de", "ltr"),
        ("zh", "ltr"),
        ("ar", "rtl"),
        ("he", "rtl"),
        ("fa", "rtl"),
        ("ur-PK", "rtl"),
        ("az-Arab", "rtl"),
        ("az", "ltr"),
    ],
)
def test_a_language_has_a_direction(language: str, direction: str) -> None:
    """The direction comes from the language, or from the script if the tag has one."""
    assert load_translations(language, []).direction == direction
    assert load_translations("en", []).direction_of(language) == direction
    assert load_translations(language, []).direction_of("") == direction


@pytest.mark.parametrize(
    ("language", "written", "month"),
    [
        ("en", "November 5, 2026", "November 2026"),
        ("en-GB", "5 November 2026", "November 2026"),
        ("de", "5. November 2026", "November 2026"),
        ("fr", "5 novembre 2026", "novembre 2026"),
        ("es", "5 de noviembre de 2026", "noviembre de 2026"),
        ("zh", "2026年11月5日", "2026年11月"),
        ("zh-Hant-TW", "2026年11月5日", "2026年11月"),
    ],
)
def test_dates_and_periods_follow_the_language(language: str, written: str, month: str) -> None:
    """Days, weeks and months are formatted by the rules of the language (CLDR)."""
    own = load_translations(language, [])
    first, last = date(2026, 11, 1), date(2026, 11, 30)
    assert own.date(DAY) == written
    assert own.period("day", DAY, DAY) == written
    assert own.period("month", first, last) == month
    week = own.period("week", DAY, last)
    assert week.startswith(written)
    assert week.endswith(own.date(last))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_of_the_theme_names_every_period(tmp_path: Path, language: str) -> None:
    """Twelve months have twelve different names in each language."""
    own = of_theme(language, tmp_path)
    months = [date(2026, month, 1) for month in range(1, 13)]
    assert len({own.period("month", month, month) for month in months}) == 12
    assert len({own.date(month) for month in months}) == 12


def test_an_unknown_language_falls_back_to_english(tmp_path: Path) -> None:
    """Texts, dates and direction of an unknown language are English."""
    unknown, english = of_theme("tlh", tmp_path), of_theme("en", tmp_path)
    assert unknown.texts == english.texts
    assert (unknown.date(DAY), unknown.direction) == (english.date(DAY), "ltr")
    assert not Theme(tmp_path, "tlh").has_translations


def test_a_region_falls_back_to_its_language(tmp_path: Path) -> None:
    """A language with a region or script takes the translations of the language."""
    assert of_theme("en-ZA", tmp_path).texts == texts("en")
    assert Theme(tmp_path, "en-ZA").has_translations


def override(site_dir: Path, language: str, text: str) -> None:
    """Write a translation file of the site."""
    path = site_dir / f"templates/translations/{language}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def test_a_site_overrides_one_translation(tmp_path: Path) -> None:
    """A translation of the site replaces the one of the theme; all others stay."""
    override(tmp_path, "en", "contact: Talk to us\n")
    own = of_theme("en", tmp_path)
    assert own.contact == "Talk to us"
    assert own.texts == {**texts("en"), "contact": "Talk to us"}


def test_a_site_adds_a_language(tmp_path: Path) -> None:
    """A site can add a language that the theme lacks; missing texts are English."""
    override(tmp_path, "eo", "contact: Kontakto\n")
    own = of_theme("eo", tmp_path)
    assert own.contact == "Kontakto"
    assert own.postal_address == texts("en")["postal_address"]
    assert Theme(tmp_path, "eo").has_translations


def test_the_most_specific_tag_wins(tmp_path: Path) -> None:
    """Texts of `pt-BR` take precedence over those of `pt`, and those over English."""
    override(tmp_path, "pt", "contact: Contacto\nemail: Correio\n")
    override(tmp_path, "pt-BR", "contact: Contato\n")
    own = of_theme("pt-BR", tmp_path)
    assert (own.contact, own.email) == ("Contato", "Correio")


def test_a_missing_translation_is_named() -> None:
    """The error names the missing key and the language."""
    with pytest.raises(AttributeError, match="'de' has no translation 'wrod'"):
        _ = load_translations("de", []).wrod
