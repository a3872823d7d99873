"""The rules of `postroom check`: their names, how much each matters, why, and who says so.

Plain data that every lint may look at: a lint names the rule in each `Problem` that it finds, and
`check` gives it the severity that stands here, or in the settings under `checks`. docs/checks.md
holds the same table for people.
"""

from __future__ import annotations

from collections.abc import Mapping

from postroom.rules.feeds import FEEDS
from postroom.rules.letters import LETTERS
from postroom.rules.output import EARLIER, PAGES
from postroom.rules.posts import POSTS, SETTINGS
from postroom.rules.rule import Rule

KINDS: Mapping[str, tuple[Rule, ...]] = {
    "Posts": POSTS,
    "Settings": SETTINGS,
    "Feeds": FEEDS,
    "Pages": PAGES,
    "Letters": LETTERS,
    "What was published earlier": EARLIER,
}
RULES: Mapping[str, Rule] = {rule.name: rule for kind in KINDS.values() for rule in kind}

__all__ = ["KINDS", "RULES", "Rule"]
