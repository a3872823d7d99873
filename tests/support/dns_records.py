"""A table of DNS records for the tests of `doctor`, and complete mail settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from postroom.doctor.dns import DnsAnswer, RecordType
from postroom.doctor.findings import Diagnosis
from postroom.models import MailSettings

Records = Mapping[str, str | tuple[str, ...]]
WHOLE = MailSettings(
    sender="Example News <news@example.com>",
    reply_to="press@example.com",
    bounces="bounces@example.com",
    unsubscribe="https://news.example.com",
    dkim_selector="mail",
)


class Offline:
    """A resolver with a table from `MX example.com` to its records, or to `(fails)`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.asked: list[str] = []

    def lookup(self, name: str, kind: RecordType) -> DnsAnswer:
        """Return the records of the table; other names do not exist."""
        self.asked.append(f"{kind} {name}")
        found = self._records.get(f"{kind} {name}", ())
        if found == "(fails)":
            return DnsAnswer("failed", reason="no answer in 5 s")
        records = (found,) if isinstance(found, str) else found
        return DnsAnswer("found" if records else "nothing", records)


def lines(findings: Iterable[Diagnosis]) -> list[str]:
    """Return findings as `level: line`."""
    return [f"{finding.level}: {finding}" for finding in findings]


def only(findings: Iterable[Diagnosis]) -> str:
    """Return the single finding as `level: line`."""
    (line,) = lines(findings)
    return line
