"""What is known of one rule."""

from __future__ import annotations

from attrs import frozen

from postroom.model import Severity


@frozen
class Rule:
    """A rule's name, its severity where the settings give none, why it is one, and its source."""

    name: str
    severity: Severity
    reason: str
    source: str
