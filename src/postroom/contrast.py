"""CSS colours, and the contrast between two of them as WCAG 2.2 measures it."""

from __future__ import annotations

import re

MIN_CONTRAST = 4.5
"""The least contrast ratio of text of normal size (WCAG 2.2, SC 1.4.3)."""
# CSS Color 4 §6.1: the names that people write by hand.
_NAMES = {
    "aqua": "#00ffff",
    "black": "#000000",
    "blue": "#0000ff",
    "fuchsia": "#ff00ff",
    "gray": "#808080",
    "green": "#008000",
    "grey": "#808080",
    "lime": "#00ff00",
    "maroon": "#800000",
    "navy": "#000080",
    "olive": "#808000",
    "orange": "#ffa500",
    "purple": "#800080",
    "red": "#ff0000",
    "silver": "#c0c0c0",
    "teal": "#008080",
    "white": "#ffffff",
    "yellow": "#ffff00",
}
_RGB = re.compile(r"rgb\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)")


def is_colour(value: str) -> bool:
    """Tell whether `value` is a colour written as `#rrggbb`."""
    return bool(re.fullmatch(r"#[0-9a-fA-F]{6}", value))


def parse_colour(value: str) -> str:
    """Return a CSS colour as `#rrggbb`, or an empty string if its format is not known.

    Hexadecimal colours, `rgb()` with commas and common names are known. Other functions, such as
    `hsl()`, are not.
    """
    if is_colour(value):
        return value
    if re.fullmatch(r"#[0-9a-fA-F]{3}", value):
        return "#" + "".join(2 * digit for digit in value[1:])
    if channels := _RGB.fullmatch(value.lower()):
        return "#" + "".join(f"{min(255, int(channel)):02x}" for channel in channels.groups())
    return _NAMES.get(value.lower(), "")


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb`, 0 (black) to 1 (white).

    WCAG 2.2, definition of relative luminance.
    """
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colour: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, SC 1.4.3)."""
    lighter, darker = sorted((luminance(colour), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mix(colour: str, target: str, share: float) -> str:
    """Return `colour` mixed with `share` (0 to 1) of `target`."""
    pairs = ((int(colour[i : i + 2], 16), int(target[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def ensure_contrast(colour: str, background: str, ratio: float = MIN_CONTRAST) -> str:
    """Return `colour`, moved just far enough to black or white to reach `ratio` on `background`."""
    target = "#ffffff" if luminance(background) < 0.18 else "#000000"
    for step in range(21):
        shade = mix(colour, target, step / 20)
        if contrast(shade, background) >= ratio:
            return shade
    return target
