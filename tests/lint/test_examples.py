"""Rules through `postroom check`: judged by the settings, and found in templates of a site."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from postroom.cli import check
from postroom.cli.main import main
from postroom.errors import Problem
from postroom.lint.runner import grade
from postroom.models import Severity
from postroom.publish.output import Contents, replace_output
from postroom.rules import RULES
from tests.lint.test_email import MESSAGES, cases
from tests.lint.test_site_rules import OUTPUT, a, other, post
from tests.lint.test_site_rules import SETTINGS as NAMED
from tests.support.site import ROOT, CommandResult, MakeSite

Run = Callable[..., CommandResult]
Plant = Callable[[Path, pytest.MonkeyPatch], tuple[str, ...]]
"""Break a rule in a site, or in its output, and return the options for `check`."""
MAIL = """\
  reply_to: press@example.com
  bounces: bounces@example.com
  unsubscribe: https://news.example.com
"""
SENT = (ROOT / "postroom.yaml").read_text("utf-8") + MAIL


def in_posts(files: Mapping[str, str | bytes]) -> Plant:
    """Return a function that writes these files into a site."""

    def plant(folder: Path, _patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        for name, text in files.items():
            (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return ()

    return plant


def in_settings(old: str, new: str) -> Plant:
    """Return a function that replaces a text in the settings."""

    def plant(folder: Path, _patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        _exchange(folder / "postroom.yaml", old, new)
        return ()

    return plant


def in_output(name: str, old: str, new: str) -> Plant:
    """Return a function that damages a file of the output after its build."""

    def plant(_folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        def damage(folder: Path, files: Mapping[str, Contents]) -> None:
            replace_output(folder, files)
            _exchange(folder / name, old, new)

        patch.setattr(check, "replace_output", damage)
        return ()

    return plant


def _exchange(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text, (file, old)
    file.write_text(text.replace(old, new), "utf-8")


def in_email(rule: str) -> Plant:
    """Return a function that breaks a rule in the newest email."""
    pattern, put = next(row[2:] for row in MESSAGES if f"email-{row[0]}" == rule)

    def plant(_folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        message = re.sub(pattern, put, cases(ROOT)[0].message(), count=1)
        patch.setattr(check, "_newest_message", lambda *_: message)
        return ()

    return plant


def after_build(change: Mapping[str, str | bytes]) -> Plant:
    """Return a function that changes files after a build with which `check` compares."""

    def plant(folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        patch.chdir(folder)
        assert main(["build", "--at", "2026-11-22T12:00:00Z"]) == 0
        in_posts(change)(folder, patch)
        return ("--against", "public")

    return plant


EXAMPLES: Mapping[str, Plant] = {
    "post-link": in_posts(a("[More](nothing.md)\n")),
    "settings-url": in_settings("url: https:", "url: http:"),
    "feed-guid": in_output(*OUTPUT["feed-guid"]),
    "page-link": in_output(*OUTPUT["page-link"]),
    "email-reply-address": in_email("email-reply-address"),
    "earlier-id": after_build(a(id="tag:news.example.com,2026:new")),
}
"""One rule of each kind; all kinds of problems are graded in the same place."""


@pytest.fixture
def site_dir(make_site: MakeSite) -> Callable[[str], Path]:
    """Return a function that writes a site in which no rule of that name is broken yet."""

    def write(rule: str) -> Path:
        more = "feeds: {entries: 1}\n" if rule.startswith("earlier-") else ""
        folder = make_site({"posts/a.md": post(), "posts/b.md": other()}, NAMED + more)
        if rule.startswith("email-"):
            (folder / "postroom.yaml").write_text(SENT, "utf-8")
        return folder

    return write


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Return a copy of the demonstration, with templates of its own."""
    for name in ("posts", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "postroom.yaml", tmp_path)
    return tmp_path


def severities(outcome: CommandResult, rule: str) -> set[str]:
    """Return the severities of the findings of a rule."""
    findings = json.loads(outcome.out)["findings"]
    return {finding["severity"] for finding in findings if finding["rule"] == rule}


@pytest.mark.parametrize("rule", EXAMPLES)
def test_a_rule_of_each_kind_is_judged_by_the_settings(
    rule: str,
    site_dir: Callable[[str], Path],
    postroom: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A finding has the severity of docs/checks.md, or that of the settings."""
    folder = site_dir(rule)
    options = EXAMPLES[rule](folder, monkeypatch)
    settings = (folder / "postroom.yaml").read_text("utf-8")
    usual = RULES[rule].severity
    another = "warning" if usual == "error" else "error"
    for severity in (usual, another, "off"):
        if severity != usual:
            checks = f"checks: {{{rule}: {severity}}}\n"
            (folder / "postroom.yaml").write_text(settings + checks, "utf-8")
        outcome = postroom(folder, "check", "--format", "json", *options)
        assert severities(outcome, rule) == ({severity} - {"off"})
        assert outcome.code == 1 or severity != "error"


SEVERITIES: tuple[Severity, ...] = ("off", "warning", "error")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_every_rule_can_have_each_severity(severity: Severity) -> None:
    """The severity of the settings replaces that of each rule; `off` removes its findings."""
    problems = [Problem("a.md", message="m", rule=rule) for rule in RULES]
    usual = {finding.rule: finding.severity for finding in grade(problems, {})}
    assert usual == {name: rule.severity for name, rule in RULES.items()}
    graded = grade(problems, dict.fromkeys(RULES, severity))
    assert {finding.severity for finding in graded} == ({severity} - {"off"})
    assert len(graded) == (0 if severity == "off" else len(RULES))


@pytest.mark.parametrize("kind", ["post-", "email-", "earlier-"])
def test_nothing_is_found_before_a_rule_is_broken(
    kind: str,
    site_dir: Callable[[str], Path],
    postroom: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sites of the examples have no finding, not even a warning."""
    folder = site_dir(kind)
    options: tuple[str, ...] = ()
    if kind == "email-":
        monkeypatch.setattr(check, "_newest_message", lambda *_: cases(ROOT)[0].message())
    elif kind == "earlier-":
        options = after_build({})(folder, monkeypatch)
    outcome = postroom(folder, "check", "--strict", *options)
    assert (outcome.code, outcome.out, outcome.err) == (0, "0 errors, 0 warnings\n", "")


# Common faults in templates. Horizontal scrolling is tested in a browser.

TITLE = "<h1>{{ title }}</h1>"
ALONE = "https://news.example.com/"
PLANTED = {
    "lang": ("language", '<html lang="{{ site.language }}"', "<html"),
    "alt": ("image-alt", TITLE, f'{TITLE}<img src="{ALONE}a.png" width="9" height="9">'),
    "title": ("title", "<title>{{ subject }}</title>", "<title></title>"),
    "empty link": ("empty-link", TITLE, f'{TITLE}<a href="{ALONE}"></a>'),
    "heading skip": ("heading-order", TITLE, f"{TITLE}<h4>{{{{ site.title }}}}</h4>"),
    "contrast": ("contrast", "margin: 0 0 6px; color: #57616a", "margin: 0 0 6px; color: #a0a8ae"),
    "duplicate id": ("duplicate-id", '<td class="item">', '<td class="item" id="item">'),
    "bad href": (
        "bad-href",
        TITLE,
        f'{TITLE}<a class="headline" href="https://">{{{{ site.title }}}}</a>',
    ),
    "flex": ("flex-or-grid", ".title {", ".title { display: flex;"),
    "grid": ("flex-or-grid", ".title {", ".title { display: grid;"),
    "missing role=presentation": (
        "layout-table",
        '<table class="layout" role="presentation"',
        '<table class="layout"',
    ),
    "click here": ("link-words", "{{ t.read_on_web }}", "Click here"),
    "script": ("script", "</body>", "<script>document.title = 'x'</script></body>"),
    "second h1": ("first-heading", TITLE, f"{TITLE}<h1>{{{{ site.title }}}}</h1>"),
    "background image": (
        "background-image",
        ".title {",
        f".title {{ background-image: url({ALONE}a.png);",
    ),
}


def test_faults_in_the_email_template_are_found(demo: Path, postroom: Run) -> None:
    """Each of 15 faults in the template of emails is found by its rule."""
    assert postroom(demo, "check", "--strict").code == 0
    for _, old, new in PLANTED.values():
        _exchange(demo / "templates/email/email.html", old, new)
    outcome = postroom(demo, "check", "--strict", "--format", "json")
    assert outcome.code == 1
    found = {finding["rule"] for finding in json.loads(outcome.out)["findings"]}
    assert found - {"email-same-words"} == {f"email-{rule}" for rule, _, _ in PLANTED.values()}


MAIN = '<main id="main">'
IN_PAGES = {
    "lang": ("page-language", '<html lang="{{ site.language }}"', "<html"),
    "alt": ("page-alt", MAIN, f'{MAIN}<img src="{{{{ relative_url(site.url) }}}}style.css">'),
    "title": ("page-title", "<title>{{ page.title }}", "<title>"),
    "empty link": (
        "page-empty-link",
        MAIN,
        f'{MAIN}<a href="{{{{ relative_url(site.url) }}}}"></a>',
    ),
    "heading skip": ("page-heading", "<h2>{{ t.contact }}</h2>", "<h6>Contact</h6>"),
    "second h1": ("page-heading", MAIN, f"{MAIN}<h1>Contact</h1>"),
    "duplicate id": ("page-id", MAIN, f'{MAIN}<p id="main">Here</p>'),
    "bad href": ("page-link", MAIN, f'{MAIN}<a href="https://">Here</a>'),
    "broken link": ("page-link", MAIN, f'{MAIN}<a href="/jobs/">Jobs</a>'),
}


def test_faults_in_all_pages_are_found_once(demo: Path, postroom: Run) -> None:
    """Each fault in the frame of all pages is one finding, with the number of pages."""
    for _, old, new in IN_PAGES.values():
        _exchange(demo / "templates/pages/base.html", old, new)
    _exchange(demo / "templates/pages/base.html", " · {{ site.title }}", "")
    outcome = postroom(demo, "check", "--strict", "--format", "json")
    findings = json.loads(outcome.out)["findings"]
    assert outcome.code == 1
    rules = Counter(finding["rule"] for finding in findings)
    assert rules.keys() == {rule for rule, _, _ in IN_PAGES.values()}
    assert all(re.search(r", on [0-9]+ pages$", finding["what"]) for finding in findings)
