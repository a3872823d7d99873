"""The table of rules: complete, documented in docs/checks.md and known to the settings."""

from __future__ import annotations

import re

import pytest

from postroom.errors import SettingsError
from postroom.rules import KINDS, RULES
from postroom.settings.site import parse_settings
from tests.support.site import ROOT, SETTINGS

PAGE = (ROOT / "docs/checks.md").read_text("utf-8")


def documented() -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of the tables of rules in docs/checks.md, by their headings."""
    sections = re.findall(r"^### (.+)\n((?:(?!##).*\n)*)", PAGE, re.MULTILINE)
    row = re.compile(r"^\| `([a-z0-9-]+)` \| (\w+) \| (.+) \| (.+) \|$", re.MULTILINE)
    return {heading: row.findall(text) for heading, text in sections}


def test_the_docs_list_every_rule() -> None:
    """docs/checks.md lists each rule under its kind, with severity, reason and source."""
    meant = {
        kind: [(rule.name, rule.severity, rule.reason, rule.source) for rule in rules]
        for kind, rules in KINDS.items()
    }
    assert documented() == meant


def test_names_of_rules_are_unique() -> None:
    """Each rule has a unique name and a kind."""
    assert len(RULES) == sum(len(rules) for rules in KINDS.values())
    assert {name.partition("-")[0] for name in RULES} == {
        "post", "attachment", "settings", "feed", "page", "email", "earlier",
    }  # fmt: skip


@pytest.mark.parametrize("severity", ["off", "warning", "error"])
def test_the_settings_can_change_every_rule(severity: str) -> None:
    """Each rule can be switched off, or made a warning or an error."""
    lines = "".join(f"  {name}: {severity}\n" for name in RULES)
    site = parse_settings(f"{SETTINGS}checks:\n{lines}".encode())
    assert site.checks == dict.fromkeys(RULES, severity)


def test_an_unknown_rule_is_an_error() -> None:
    """An unknown rule is reported with its line and the most similar rule."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(f"{SETTINGS}checks: {{post-link-word: off}}\n".encode())
    assert str(caught.value) == (
        "postroom.yaml:6:10: checks.post-link-word: is not a known key;"
        " delete it, or did you mean 'post-link-words'?"
    )
