"""Findings → what programs read: JSON, and the annotations of GitHub Actions."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence

from postroom.check.findings import Finding


def counts(findings: Sequence[Finding]) -> tuple[int, int]:
    """Return the number of errors and of warnings."""
    errors = sum(one.severity == "error" for one in findings)
    return errors, len(findings) - errors


def as_json(findings: Sequence[Finding]) -> str:
    """Return one JSON document; what is not known of a place is 0 or empty."""
    errors, warnings = counts(findings)
    rows = [
        {
            "severity": one.severity,
            "rule": one.rule,
            "path": one.problem.path,
            "line": one.problem.line,
            "column": one.problem.column,
            "key": one.problem.key,
            "what": one.problem.what,
            "repair": one.problem.repair,
        }
        for one in findings
    ]
    document = {"errors": errors, "warnings": warnings, "findings": rows}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def as_annotations(findings: Sequence[Finding], folder: str) -> str:
    """Return workflow commands; `folder` is the newsroom's, seen from the repository's root."""
    return "".join(f"{_annotation(one, folder)}\n" for one in findings)


def _annotation(finding: Finding, folder: str) -> str:
    problem = finding.problem
    values = {
        "file": posixpath.normpath(posixpath.join(folder, problem.path)) if problem.path else "",
        "line": str(problem.line or ""),
        "col": str(problem.column or ""),
        "title": finding.rule or "postroom",
    }
    properties = ",".join(f"{name}={_property(value)}" for name, value in values.items() if value)
    sentence = "; ".join(part for part in (problem.what, problem.repair) if part)
    message = ": ".join(part for part in (problem.key, sentence) if part)
    return f"::{finding.severity} {properties}::{_data(message)}"


# GitHub Actions, workflow commands: what would end a command, and what would end a property.
def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
