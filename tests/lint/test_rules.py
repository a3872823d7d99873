"""The table of rules: whole, told in docs/checks.md word by word, and known to the settings."""

from __future__ import annotations

import re

import pytest

from postroom.errors import SettingsError
from postroom.rules import KINDS, RULES
from postroom.settings.site import parse_settings
from tests.support.site import ROOT, SETTINGS

PAGE = (ROOT / "docs/checks.md").read_text("utf-8")


def told() -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of the tables in docs/checks.md that have rules, by their headings."""
    sections = re.findall(r"^### (.+)\n((?:(?!##).*\n)*)", PAGE, re.MULTILINE)
    row = re.compile(r"^\| `([a-z0-9-]+)` \| (\w+) \| (.+) \| (.+) \|$", re.MULTILINE)
    return {heading: row.findall(text) for heading, text in sections}


def test_the_page_of_checks_tells_every_rule() -> None:
    """docs/checks.md has a line for each rule, under its kind, with severity, reason and source."""
    meant = {
        kind: [(rule.name, rule.severity, rule.reason, rule.source) for rule in rules]
        for kind, rules in KINDS.items()
    }
    assert told() == meant


def test_no_name_stands_for_two_rules() -> None:
    """Each rule has a name of its own, and says of what kind it is."""
    assert len(RULES) == sum(len(rules) for rules in KINDS.values())
    assert {name.partition("-")[0] for name in RULES} == {
        "post", "settings", "feed", "page", "email", "earlier",
    }  # fmt: skip


@pytest.mark.parametrize("severity", ["off", "warning", "error"])
def test_the_settings_may_judge_every_rule(severity: str) -> None:
    """Each rule can be switched off, or made a warning or an error."""
    lines = "".join(f"  {name}: {severity}\n" for name in RULES)
    site = parse_settings(f"{SETTINGS}checks:\n{lines}".encode())
    assert site.checks == dict.fromkeys(RULES, severity)


def test_an_unknown_rule_is_an_error() -> None:
    """A rule that there is not is named with its line, and the rule that was meant."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(f"{SETTINGS}checks: {{post-link-word: off}}\n".encode())
    assert str(caught.value) == (
        "postroom.yaml:6:10: checks.post-link-word: is not a known key;"
        " delete it, or did you mean 'post-link-words'?"
    )
