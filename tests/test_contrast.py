"""Contrast ratios as WCAG 2.2 defines them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.contrast import contrast, ensure_contrast, is_colour, luminance, mix, parse_colour

COLOURS = st.integers(0, 0xFFFFFF).map("#{:06x}".format)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("#0b6b62", True),
        ("#0B6B62", True),
        ("0b6b62", False),
        ("#0b6", False),
        ("#0b6b62ff", False),
        ("#0b6b6g", False),
        ("#0b6b62\n", False),
        ("teal", False),
    ],
)
def test_a_colour_is_a_hash_and_six_digits(value: str, *, expected: bool) -> None:
    """Only `#rrggbb` is a colour."""
    assert is_colour(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("#0b6b62", "#0b6b62"),
        ("#0B6", "#00BB66"),
        ("rgb(11, 107,98)", "#0b6b62"),
        ("rgb(999, 0, 0)", "#ff0000"),
        ("White", "#ffffff"),
        ("orange", "#ffa500"),
        ("hsl(0, 0%, 0%)", ""),
        ("inherit", ""),
        ("", ""),
    ],
)
def test_css_colours_are_parsed(value: str, expected: str) -> None:
    """Hexadecimal colours, `rgb()` and common names become `#rrggbb`; others are unknown."""
    assert parse_colour(value) == expected


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("#000000", 0.0),
        ("#ffffff", 1.0),
        ("#ff0000", 0.2126),
        ("#00ff00", 0.7152),
        ("#0000ff", 0.0722),
        ("#808080", 0.2158605),
        ("#0a0a0a", 0.0030353),
    ],
)
def test_luminance_is_that_of_the_standard(colour: str, expected: float) -> None:
    """The relative luminance of each primary is its weight; dark greys are linear."""
    assert luminance(colour) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("colour", "other", "expected"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#ffffff", "#ffffff", 1.0),
        ("#767676", "#ffffff", 4.5422),
        ("#777777", "#ffffff", 4.4781),
        ("#0b6b62", "#ffffff", 6.3759),
    ],
)
def test_contrast_is_that_of_the_standard(colour: str, other: str, expected: float) -> None:
    """Grey #767676 is the lightest that can be read on white (WCAG 2.2, SC 1.4.3)."""
    assert contrast(colour, other) == pytest.approx(expected, abs=1e-4)
    assert contrast(other, colour) == contrast(colour, other)


@pytest.mark.parametrize(("share", "expected"), [(0, "#0b6b62"), (0.5, "#85b5b0"), (1, "#ffffff")])
def test_a_colour_moves_towards_another(share: float, expected: str) -> None:
    """A share of 0 changes nothing; a share of 1 gives the other colour."""
    assert mix("#0b6b62", "#ffffff", share) == expected


def test_a_readable_colour_is_unchanged() -> None:
    """A readable accent is unchanged."""
    assert ensure_contrast("#0b6b62", "#ffffff") == "#0b6b62"


@pytest.mark.parametrize(
    ("colour", "background", "expected"),
    [("#ffff00", "#ffffff", "#737300"), ("#0b6b62", "#14171a", "#489089")],
)
def test_an_unreadable_colour_is_changed(colour: str, background: str, expected: str) -> None:
    """Yellow on white becomes darker, and dark green on near black becomes lighter."""
    assert ensure_contrast(colour, background) == expected


@settings(deadline=None, max_examples=60)
@given(COLOURS, COLOURS)
def test_contrast_is_between_1_and_21(colour: str, other: str) -> None:
    """No two colours have more contrast than black and white."""
    assert 1 <= contrast(colour, other) <= 21


@settings(deadline=None, max_examples=60)
@given(COLOURS, COLOURS)
def test_any_colour_can_be_made_readable_on_any_background(colour: str, background: str) -> None:
    """Any accent of a site can be made readable (WCAG 2.2, SC 1.4.3)."""
    assert contrast(ensure_contrast(colour, background), background) >= 4.5
