"""Settings that can be, and should not."""

from __future__ import annotations

from collections.abc import Iterator

from postroom.config import FILE_NAME
from postroom.errors import Problem
from postroom.model import Site


def settings_problems(site: Site) -> Iterator[Problem]:
    """Yield what is unwise in the settings."""
    if site.url.startswith("http:"):
        what = f"{site.url} comes without encryption"
        repair = f"write https:{site.url.removeprefix('http:')}, and let the host redirect"
        yield Problem(FILE_NAME, key="url", what=what, repair=repair, rule="settings-url")
