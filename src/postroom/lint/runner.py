"""What the lints of all rooms say → findings: each problem with its rule and its severity."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.contrast import contrast_problems
from postroom.lint.email import lint_email as lint_message
from postroom.lint.email import lint_rendered_email
from postroom.lint.feeds import lint_feed
from postroom.lint.internal_links import InternalLinks
from postroom.lint.pages import index_site, lint_pages
from postroom.lint.posts import ExternalLink, lint_front_matter, lint_texts
from postroom.models import FORMATS, Severity, Site
from postroom.newsletter.render import RenderedEmail
from postroom.rules import RULES

_FEED = re.compile(
    rf"(?:(?:topics|lang)/[^/]+/)?(?:{'|'.join(re.escape(form.file) for form in FORMATS)})"
    rf"|history/[0-9]+\.(?:{'|'.join(re.escape(form.archive_ending) for form in FORMATS)})"
)
_LETTER = re.compile(r"digest/[^/]+/email\.html")
_STYLES = ("style.css", "feed.css")


@frozen(order=True)
class LintFinding:
    """A problem, and how much it matters; its rule is empty where no settings can allow it."""

    problem: Problem
    severity: Severity

    @property
    def rule(self) -> str:
        """The name of the rule that found it."""
        return self.problem.rule

    def __str__(self) -> str:
        """Return the problem's line with the rule's name behind it."""
        return f"{self.problem} [{self.rule}]" if self.rule else str(self.problem)


def grade(
    problems: Iterable[Problem], severities: Mapping[str, Severity]
) -> tuple[LintFinding, ...]:
    """Return problems in order, each as severe as the settings or its rule say; off is left out."""
    found = (LintFinding(one, _severity(one.rule, severities)) for one in dict.fromkeys(problems))
    return tuple(sorted(one for one in found if one.severity != "off"))


def _severity(rule: str, severities: Mapping[str, Severity]) -> Severity:
    if not rule:
        return "error"
    return severities.get(rule, RULES[rule].severity)


@frozen
class LintTarget:
    """The output of a build in `folder`, and the newest letter as a subscriber would get it.

    `standing` tells of other files that a host serves beside the output; the `message` is empty
    where the settings lack what sending needs.
    """

    folder: Path
    standing: Callable[[str], bool] = lambda _: False
    message: bytes = field(default=b"", repr=False)


def run_rules(
    written: LintContext, made: LintTarget, outside: list[ExternalLink] | None = None
) -> list[Problem]:
    """Return what is wrong with posts and with what a build made of them.

    The links of posts to other sites are put into `outside`.
    """
    carried = frozenset(file.output for post in written.loaded.posts for file in post.attachments)
    looked = index_site(made.folder, written.site, made.standing, carried)
    destinations = InternalLinks(written, looked)
    found = [*written.loaded.warnings, *lint_front_matter(written)]
    found += lint_texts(destinations, outside)
    found += lint_pages(looked, written, destinations.blamed)
    ours = sorted(looked.files - carried)
    found += _folded(_feeds(made.folder, ours, written.site))
    found += _folded(_letters(made, ours, written.site))
    for name in _STYLES:
        if name in looked.files:
            css = (made.folder / name).read_text("utf-8")
            found += contrast_problems(css, f"{written.site.output}/{name}")
    return found


def _feeds(folder: Path, paths: Iterable[str], site: Site) -> Iterator[Problem]:
    for path in paths:
        if _FEED.fullmatch(path):
            yield from lint_feed((folder / path).read_bytes(), f"{site.output}/{path}")


def _letters(made: LintTarget, paths: Iterable[str], site: Site) -> Iterator[Problem]:
    # Those before the last two have gone out; nothing in them can be put right.
    last = [path for path in paths if _LETTER.fullmatch(path)][-2:]
    for path in last:
        name = f"{site.output}/{path}"
        if made.message and path == last[-1]:
            yield from lint_message(made.message, site, name)
        else:
            html = (made.folder / path).read_text("utf-8")
            text = (made.folder / path).with_suffix(".txt").read_text("utf-8")
            yield from lint_rendered_email(RenderedEmail("", html, text), site, name)


def _folded(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield each problem once, for the first of the files that it is found in."""
    first: dict[Problem, Problem] = {}
    count: dict[Problem, int] = {}
    for problem in problems:
        bare = evolve(problem, path="")
        first.setdefault(bare, problem)
        count[bare] = count.get(bare, 0) + 1
    for bare, problem in first.items():
        more = f", as in {count[bare]} files" if count[bare] > 1 else ""
        yield evolve(problem, message=problem.message + more)


def summarize(findings: Sequence[LintFinding]) -> tuple[int, int]:
    """Return the number of errors and of warnings."""
    errors = sum(one.severity == "error" for one in findings)
    return errors, len(findings) - errors


def format_json(findings: Sequence[LintFinding]) -> str:
    """Return one JSON document; what is not known of a place is 0 or empty."""
    errors, warnings = summarize(findings)
    rows = [
        {
            "severity": one.severity,
            "rule": one.rule,
            "path": one.problem.path,
            "line": one.problem.line,
            "column": one.problem.column,
            "key": one.problem.key,
            "what": one.problem.message,
            "repair": one.problem.hint,
        }
        for one in findings
    ]
    document = {"errors": errors, "warnings": warnings, "findings": rows}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def format_annotations(findings: Sequence[LintFinding], folder: str) -> str:
    """Return workflow commands; `folder` is the newsroom's, seen from the repository's root."""
    return "".join(f"{_annotation(one, folder)}\n" for one in findings)


def _annotation(finding: LintFinding, folder: str) -> str:
    problem = finding.problem
    values = {
        "file": posixpath.normpath(posixpath.join(folder, problem.path)) if problem.path else "",
        "line": str(problem.line or ""),
        "col": str(problem.column or ""),
        "title": finding.rule or "postroom",
    }
    properties = ",".join(f"{name}={_property(value)}" for name, value in values.items() if value)
    sentence = "; ".join(part for part in (problem.message, problem.hint) if part)
    message = ": ".join(part for part in (problem.key, sentence) if part)
    return f"::{finding.severity} {properties}::{_data(message)}"


# GitHub Actions, workflow commands: what would end a command, and what would end a property.
def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
