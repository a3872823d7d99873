"""Contrast between colours, as WCAG 2.2 measures it."""

from __future__ import annotations

import re


def is_colour(value: str) -> bool:
    """Tell whether `value` is a colour written as `#rrggbb`."""
    return bool(re.fullmatch(r"#[0-9a-fA-F]{6}", value))


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb`, 0 (black) to 1 (white).

    WCAG 2.2, definition of relative luminance.
    """
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, SC 1.4.3)."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mix(colour: str, target: str, share: float) -> str:
    """Return `colour` mixed with `share` (0 to 1) of `target`."""
    pairs = ((int(colour[i : i + 2], 16), int(target[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def ensure_contrast(colour: str, background: str, ratio: float = 4.5) -> str:
    """Return `colour`, moved just far enough to black or white to reach `ratio` on `background`."""
    target = "#ffffff" if luminance(background) < 0.18 else "#000000"
    for step in range(21):
        shade = mix(colour, target, step / 20)
        if contrast(shade, background) >= ratio:
            return shade
    return target
