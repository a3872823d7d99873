"""What the lints of all rooms say → findings: each problem with its rule and its severity."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from attrs import evolve, field, frozen

from postroom.check.contrast import contrast_problems
from postroom.check.destinations import Destinations
from postroom.check.heads import head_problems
from postroom.check.pages import page_problems
from postroom.check.survey import survey
from postroom.check.texts import Outside, text_problems
from postroom.check.written import Written
from postroom.errors import Problem
from postroom.feeds.lint import lint as lint_feed
from postroom.letters.compose import Rendered
from postroom.letters.lint import lint as lint_message
from postroom.letters.lint import lint_rendered
from postroom.model import Severity, Site
from postroom.rules import RULES

_FEED = re.compile(
    r"(?:(?:topics|lang)/[^/]+/)?(?:atom\.xml|rss\.xml|feed\.json)"
    r"|history/[0-9]+\.(?:atom\.xml|rss\.xml|json)"
)
_LETTER = re.compile(r"digest/[^/]+/letter\.html")
_STYLES = ("style.css", "feed.css")


@frozen(order=True)
class Finding:
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


def graded(problems: Iterable[Problem], severities: Mapping[str, Severity]) -> tuple[Finding, ...]:
    """Return problems in order, each as severe as the settings or its rule say; off is left out."""
    found = (Finding(one, _severity(one.rule, severities)) for one in dict.fromkeys(problems))
    return tuple(sorted(one for one in found if one.severity != "off"))


def _severity(rule: str, severities: Mapping[str, Severity]) -> Severity:
    if not rule:
        return "error"
    return severities.get(rule, RULES[rule].severity)


@frozen
class Made:
    """The output of a build in `folder`, and the newest letter as a subscriber would get it.

    `standing` tells of other files that a host serves beside the output; the `message` is empty
    where the settings lack what sending needs.
    """

    folder: Path
    standing: Callable[[str], bool] = lambda _: False
    message: bytes = field(default=b"", repr=False)


def findings(written: Written, made: Made, outside: list[Outside] | None = None) -> list[Problem]:
    """Return what is wrong with posts and with what a build made of them.

    The links of posts to other sites are put into `outside`.
    """
    carried = frozenset(file.output for post in written.loaded.posts for file in post.attachments)
    looked = survey(made.folder, written.site, made.standing, carried)
    destinations = Destinations(written, looked)
    found = [*written.loaded.warnings, *head_problems(written)]
    found += text_problems(destinations, outside)
    found += page_problems(looked, written, destinations.blamed)
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


def _letters(made: Made, paths: Iterable[str], site: Site) -> Iterator[Problem]:
    # Those before the last two have gone out; nothing in them can be put right.
    last = [path for path in paths if _LETTER.fullmatch(path)][-2:]
    for path in last:
        name = f"{site.output}/{path}"
        if made.message and path == last[-1]:
            yield from lint_message(made.message, site, name)
        else:
            html = (made.folder / path).read_text("utf-8")
            text = (made.folder / path).with_suffix(".txt").read_text("utf-8")
            yield from lint_rendered(Rendered("", html, text), site, name)


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
        yield evolve(problem, what=problem.what + more)
