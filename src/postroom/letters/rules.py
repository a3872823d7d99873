"""What the rooms of the letter lint yield; the rules themselves stand in `postroom.rules`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from postroom.rules import Rule
from postroom.rules.letters import LETTERS

RULES: Mapping[str, Rule] = {rule.name.removeprefix("letter-"): rule for rule in LETTERS}
"""The rules by the names that the lint gives them."""
Finding = tuple[str, str, str]
"""The name of a rule, what was found, and how to repair it."""
Findings = Iterator[Finding]
