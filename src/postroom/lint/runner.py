"""Run all rules, grade their problems, and format the findings as text, JSON or annotations."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.contrast import lint_stylesheet
from postroom.lint.email import lint_email, lint_rendered_email
from postroom.lint.feeds import is_feed_path, lint_feed
from postroom.lint.internal_links import InternalLinks
from postroom.lint.pages import index_site, lint_pages
from postroom.lint.posts import ExternalLink, lint_front_matter, lint_texts
from postroom.models import Severity, Site
from postroom.newsletter.render import RenderedEmail
from postroom.rules import RULES

_EMAIL = re.compile(r"digest/[^/]+/email\.html")
_STYLES = ("style.css", "feed.css")


@frozen(order=True)
class LintFinding:
    """A problem with its severity; `rule` is empty if settings cannot switch it off."""

    problem: Problem
    severity: Severity

    @property
    def rule(self) -> str:
        """The name of the rule that found the problem."""
        return self.problem.rule

    def __str__(self) -> str:
        """Return the text of the problem on one line, followed by the name of the rule."""
        return f"{self.problem} [{self.rule}]" if self.rule else str(self.problem)


def grade(
    problems: Iterable[Problem], severities: Mapping[str, Severity]
) -> tuple[LintFinding, ...]:
    """Return `problems` as sorted findings, each with its severity.

    `severities` come from the settings and replace the defaults of the rules. Problems whose
    severity is `off` are left out.
    """
    findings = (
        LintFinding(problem, _severity(problem.rule, severities))
        for problem in dict.fromkeys(problems)
    )
    return tuple(sorted(finding for finding in findings if finding.severity != "off"))


def _severity(rule: str, severities: Mapping[str, Severity]) -> Severity:
    if not rule:
        return "error"
    return severities.get(rule, RULES[rule].severity)


@frozen
class LintTarget:
    """The output of a build in `folder`, and `message`, the newest issue as an email.

    `is_foreign` tells whether a path is a file that the build did not make. `message` is empty if
    the settings lack what sending needs.
    """

    folder: Path
    is_foreign: Callable[[str], bool] = lambda _: False
    message: bytes = field(default=b"", repr=False)


def run_rules(
    context: LintContext, target: LintTarget, external: list[ExternalLink] | None = None
) -> list[Problem]:
    """Return the problems of the posts, and of the pages, feeds and emails of their build.

    Links of posts to other sites are appended to `external`.
    """
    site = context.site
    attachments = frozenset(
        file.output for post in context.loaded.posts for file in post.attachments
    )
    index = index_site(target.folder, site, target.is_foreign, attachments)
    links = InternalLinks(context, index)
    problems = [*context.loaded.warnings, *lint_front_matter(context)]
    problems += lint_texts(links, external)
    problems += lint_pages(index, context, links.blamed)
    generated = sorted(index.files - attachments)
    problems += _merge(_lint_feeds(target.folder, generated, site))
    problems += _merge(_lint_emails(target, generated, site))
    for name in _STYLES:
        if name in index.files:
            css = (target.folder / name).read_text("utf-8")
            problems += lint_stylesheet(css, f"{site.output}/{name}")
    return problems


def _lint_feeds(folder: Path, paths: Iterable[str], site: Site) -> Iterator[Problem]:
    for path in paths:
        if is_feed_path(path):
            yield from lint_feed((folder / path).read_bytes(), f"{site.output}/{path}")


def _lint_emails(target: LintTarget, paths: Iterable[str], site: Site) -> Iterator[Problem]:
    # Only the last two are checked: earlier ones have been sent and cannot be corrected.
    last = [path for path in paths if _EMAIL.fullmatch(path)][-2:]
    for path in last:
        name = f"{site.output}/{path}"
        if target.message and path == last[-1]:
            yield from lint_email(target.message, site, name)
        else:
            html = (target.folder / path).read_text("utf-8")
            text = (target.folder / path).with_suffix(".txt").read_text("utf-8")
            yield from lint_rendered_email(RenderedEmail("", html, text), site, name)


def _merge(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Merge equal problems of several files into one.

    The merged problem has the path of the first file, and its message says how many files have it.
    """
    first: dict[Problem, Problem] = {}
    count: dict[Problem, int] = {}
    for problem in problems:
        key = evolve(problem, path="")
        first.setdefault(key, problem)
        count[key] = count.get(key, 0) + 1
    for key, problem in first.items():
        more = f", in {count[key]} files" if count[key] > 1 else ""
        yield evolve(problem, message=problem.message + more)


def summarize(findings: Sequence[LintFinding]) -> tuple[int, int]:
    """Return the number of errors and of warnings."""
    errors = sum(finding.severity == "error" for finding in findings)
    return errors, len(findings) - errors


def format_json(findings: Sequence[LintFinding]) -> str:
    """Return `findings` as one JSON document.

    A line or column that is not known is 0; a path or key that is not known is empty.
    """
    errors, warnings = summarize(findings)
    rows = [
        {
            "severity": finding.severity,
            "rule": finding.rule,
            "path": finding.problem.path,
            "line": finding.problem.line,
            "column": finding.problem.column,
            "key": finding.problem.key,
            "what": finding.problem.message,
            "repair": finding.problem.hint,
        }
        for finding in findings
    ]
    document = {"errors": errors, "warnings": warnings, "findings": rows}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def format_annotations(findings: Sequence[LintFinding], folder: str) -> str:
    """Return `findings` as workflow commands of GitHub Actions, which annotate the files.

    `folder` is the path of the site, relative to the root of the repository.
    """
    return "".join(f"{_annotation(finding, folder)}\n" for finding in findings)


def _annotation(finding: LintFinding, folder: str) -> str:
    problem = finding.problem
    values = {
        "file": posixpath.normpath(posixpath.join(folder, problem.path)) if problem.path else "",
        "line": str(problem.line or ""),
        "col": str(problem.column or ""),
        "title": finding.rule or "postroom",
    }
    properties = ",".join(
        f"{name}={_escape_property(value)}" for name, value in values.items() if value
    )
    sentence = "; ".join(part for part in (problem.message, problem.hint) if part)
    message = ": ".join(part for part in (problem.key, sentence) if part)
    return f"::{finding.severity} {properties}::{_escape_data(message)}"


# GitHub Actions, workflow commands: escape what would end a command or a property.
def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
