"""Every rule through `postroom check` itself: found where broken, silent where kept, and judged."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from attrs import evolve

from postroom.cli import check
from postroom.cli.main import main
from postroom.models import Post, Site
from postroom.publish.build import make_outputs
from postroom.publish.output import Contents, replace_output
from postroom.rules import RULES
from tests.lint.test_email import HTML, MESSAGES, TEXT, Case, cases, with_part
from tests.lint.test_external_links import web
from tests.lint.test_site_rules import OUTPUT, POSTS, a, other, post
from tests.lint.test_site_rules import SETTINGS as NAMED
from tests.support.generated_sites import PIXEL
from tests.support.site import ROOT, CommandResult, MakeSite

Run = Callable[..., CommandResult]
Plant = Callable[[Path, pytest.MonkeyPatch], tuple[str, ...]]
"""Breaks a rule in a newsroom, or in what is made of it, and returns what `check` is told."""
MAIL = """\
  reply_to: press@example.com
  bounces: bounces@example.com
  unsubscribe: https://news.example.com
"""
SENT = (ROOT / "postroom.yaml").read_text("utf-8") + MAIL


def in_posts(files: Mapping[str, str | bytes]) -> Plant:
    """Return what gives a newsroom these files."""

    def plant(folder: Path, _patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        for name, text in files.items():
            (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return ()

    return plant


def in_settings(old: str, new: str) -> Plant:
    """Return what writes something else into the settings."""

    def plant(folder: Path, _patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        _exchange(folder / "postroom.yaml", old, new)
        return ()

    return plant


def in_output(name: str, old: str, new: str) -> Plant:
    """Return what spoils a file that the build has just made, as no author could."""

    def plant(_folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        def spoiled(folder: Path, files: Mapping[str, Contents]) -> None:
            replace_output(folder, files)
            _exchange(folder / name, old, new)

        patch.setattr(check, "replace_output", spoiled)
        return ()

    return plant


def _exchange(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def in_letter(rule: str) -> Plant:
    """Return what breaks a rule of letters in the newest of them."""

    def plant(_folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        message = _spoiled(rule.removeprefix("email-"))
        patch.setattr(check, "_newest_message", lambda *_: message)
        return ()

    return plant


@cache
def whole() -> Case:
    """Return a whole letter of the demonstration."""
    return cases(ROOT)[0]


def _spoiled(rule: str) -> bytes:
    for name, _, pattern, put in MESSAGES:
        if name == rule:
            return re.sub(pattern, put, whole().message(), count=1)
    for part, rows in (("html", HTML), ("text", TEXT)):
        for name, _, before, instead in rows:
            if name == rule:
                return with_part(whole(), part, before, instead).message()
    raise AssertionError(rule)


def with_links(files: Mapping[str, str | bytes]) -> Plant:
    """Return what gives a newsroom these files, and lets this machine be asked for links."""

    def plant(folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        patch.setattr(check, "make_link_checker", web)
        return (*in_posts(files)(folder, patch), "--links")

    return plant


def after(change: Mapping[str, str | bytes | None]) -> Plant:
    """Return what changes files after a build that readers have; no text takes one away."""

    def plant(folder: Path, patch: pytest.MonkeyPatch) -> tuple[str, ...]:
        patch.chdir(folder)
        assert main(["build", "--at", "2026-11-22T12:00:00Z"]) == 0
        for name, text in change.items():
            if text is None:
                (folder / name).unlink()
            else:
                in_posts({name: text})(folder, patch)
        return ("--against", "public")

    return plant


FOUNDER = "  organization: Example Magnets  # placeholder\n  name: Daniel Wong\n"
CLOSED = "http://127.0.0.1:1/"
"""An address of this machine where nobody answers."""
SETTINGS = {
    "settings-url": ("url: https:", "url: http:"),
    "settings-language": ("language: en", "language: tlh"),
    "email-signed": (FOUNDER, ""),
}
EARLIER: Mapping[str, Mapping[str, str | bytes | None]] = {
    "earlier-id": a(id="tag:news.example.com,2026:new"),
    "earlier-address": a(slug="elsewhere"),
    "earlier-gone": {"posts/b.md": None},
    "earlier-history": {"posts/c.md": post(date="2026-11-01", id="tag:news.example.com,2026:c")},
}
EXAMPLES: Mapping[str, Plant] = {
    **{case.rule: in_posts(case.broken) for case in reversed(POSTS)},
    **{rule: in_output(*row) for rule, row in OUTPUT.items()},
    **{rule: in_letter(rule) for rule in RULES if rule.startswith("email-")},
    **{rule: in_settings(*row) for rule, row in SETTINGS.items()},
    **{rule: after(change) for rule, change in EARLIER.items()},
    "post-link-outside": with_links(a(f"[Our neighbours]({CLOSED})\n")),
}


@pytest.fixture
def site_dir(make_site: MakeSite) -> Callable[[str], Path]:
    """Return a function that writes a newsroom in which no rule of that name is broken yet."""

    def made(rule: str) -> Path:
        more = "feeds: {entries: 1}\n" if rule.startswith("earlier-") else ""
        folder = make_site({"posts/a.md": post(), "posts/b.md": other()}, NAMED + more)
        if rule.startswith("email-"):
            (folder / "postroom.yaml").write_text(SENT, "utf-8")
        return folder

    return made


@pytest.fixture(autouse=True)
def _builds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each newsroom be built once, however often it is looked at: rules change no output."""

    def built(folder: Path, site: Site, posts: tuple[Post, ...]) -> dict[str, Contents]:
        key = (repr(evolve(site, checks={})), repr(posts), _templates(folder))
        if key not in BUILT:
            BUILT[key] = make_outputs(folder, site, posts)
        return BUILT[key]

    monkeypatch.setattr(check, "make_outputs", built)


BUILT: dict[tuple[str, str, str], dict[str, Contents]] = {}


def _templates(folder: Path) -> str:
    files = sorted((folder / "templates").rglob("*.*"))
    return "".join(file.read_text("utf-8") for file in files)


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Return a copy of the demonstration, with templates of its own."""
    for name in ("posts", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "postroom.yaml", tmp_path)
    return tmp_path


def severities(outcome: CommandResult, rule: str) -> set[str]:
    """Return how severe the findings of a rule are."""
    found = json.loads(outcome.out)["findings"]
    return {one["severity"] for one in found if one["rule"] == rule}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_found_and_judged_by_the_settings(
    rule: str,
    site_dir: Callable[[str], Path],
    postroom: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What breaks a rule is found as severe as docs/checks.md says, or as the settings say."""
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


@pytest.mark.parametrize("kind", ["post-", "email-", "earlier-"])
def test_nothing_is_found_before_a_rule_is_broken(
    kind: str,
    site_dir: Callable[[str], Path],
    postroom: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newsrooms that the examples break are whole, to the last warning."""
    folder = site_dir(kind)
    options: tuple[str, ...] = ()
    if kind == "email-":
        monkeypatch.setattr(check, "_newest_message", lambda *_: whole().message())
    elif kind == "earlier-":
        options = after({})(folder, monkeypatch)
    outcome = postroom(folder, "check", "--strict", *options)
    assert (outcome.code, outcome.out, outcome.err) == (0, "0 errors, 0 warnings\n", "")


# Sixteen faults that are easily made; the sixteenth, what runs sideways, a browser finds.

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
    "flex": ("flex-or-grid", ".title { padding", ".title { display: flex; padding"),
    "grid": ("flex-or-grid", ".title { padding", ".title { display: grid; padding"),
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
        ".title { padding",
        f".title {{ background-image: url({ALONE}a.png); padding",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_planted_in_a_template_is_found(fault: str, demo: Path, postroom: Run) -> None:
    """One fault in the template of letters: it is told, and at most that the text lacks words."""
    rule, old, new = PLANTED[fault]
    assert postroom(demo, "check", "--strict").code == 0
    _exchange(demo / "templates/email/email.html", old, new)
    outcome = postroom(demo, "check", "--strict", "--format", "json")
    assert outcome.code == 1
    found = {one["rule"] for one in json.loads(outcome.out)["findings"]}
    assert found - {"email-same-words"} == {f"email-{rule}"}


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
    "second h1": ("page-heading", "<h2>{{ t.contact }}</h2>", "<h1>Contact</h1>"),
    "duplicate id": ("page-id", MAIN, f'{MAIN}<p id="main">Here</p>'),
    "bad href": ("page-link", MAIN, f'{MAIN}<a href="https://">Here</a>'),
    "broken link": ("page-link", MAIN, f'{MAIN}<a href="/jobs/">Jobs</a>'),
}


@pytest.mark.parametrize("fault", IN_PAGES)
def test_a_fault_planted_in_all_pages_is_found_once(fault: str, demo: Path, postroom: Run) -> None:
    """The demonstration with one fault in the frame of its pages: one line, with their number."""
    rule, old, new = IN_PAGES[fault]
    _exchange(demo / "templates/pages/base.html", old, new)
    if fault == "title":
        _exchange(demo / "templates/pages/base.html", " · {{ site.title }}", "")
    outcome = postroom(demo, "check", "--strict", "--format", "json")
    found = json.loads(outcome.out)["findings"]
    assert outcome.code == 1
    assert {one["rule"] for one in found} == {rule}
    # Of the footer's heading the outline tells after what it comes, which differs.
    assert len(found) == (2 if fault == "heading skip" else 1)


def test_a_pale_colour_in_a_stylesheet_is_found(demo: Path, postroom: Run) -> None:
    """The demonstration with a colour of its own that nobody can read: told with both colours."""
    _exchange(demo / "templates/style.css", "--soft: #57616a", "--soft: #b0b8be")
    outcome = postroom(demo, "check")
    assert outcome.code == 1
    assert all("[page-contrast]" in line for line in outcome.errors)


@pytest.mark.parametrize(
    ("fault", "rule", "line"),
    [
        ("![](p.png)", "post-alt", 7),
        ("[](https://a.example/)", "post-link-words", 7),
        ("[Click here](https://a.example/)", "post-link-words", 7),
        ("## One\n\n#### Two", "post-heading", 9),
        ("[Our map](https://)", "post-link", 7),
        ("[Our map]()", "post-link", 7),
    ],
    ids=["alt", "empty link", "click here", "heading skip", "bad href", "no href"],
)
def test_a_fault_planted_in_a_post_is_found(
    fault: str, rule: str, line: int, site_dir: Callable[[str], Path], postroom: Run
) -> None:
    """Those that an author can make are told with the line of the post."""
    folder = site_dir(rule)
    (folder / "posts/a.md").write_text(post(f"{fault}\n"), "utf-8")
    (folder / "posts/p.png").write_bytes(PIXEL)
    outcome = postroom(folder, "check", "--strict", "--format", "json")
    found = json.loads(outcome.out)["findings"]
    assert (rule, "posts/a.md", line) in {(one["rule"], one["path"], one["line"]) for one in found}
    assert outcome.code == 1
