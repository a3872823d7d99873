"""The output formats of `postroom check`: reviewed, and readable by the programs they are for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Problem
from postroom.lint.runner import LintFinding, format_annotations, format_json
from tests.support.site import CommandResult, MakeSite

Run = Callable[..., CommandResult]
GOLDEN = Path(__file__).parents[1] / "golden/check"
SETTINGS = "contact: {organization: Example Company}\nchecks: {email-preheader: off}\n"
POSTS = {
    "posts/100%, a: b.md": """\
---
title: 'We moved: 100 % of us'
date: 2026-11-20
id: tag:news.example.com,2026:moved
slug: moved
titel: We moved
---
See [here](nothing.md), [the draft](draft.md)
and [what comes](/posts/later/#why).

### Deep
""",
    "posts/draft.md": "---\ndate: 2026-01-01\ndraft: true\n---\n# A draft\n",
    "posts/later.md": "---\ndate: 2026-12-24\nid: tag:news.example.com,2026:later\n---\n# Later\n",
}


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_each_format_is_golden(make_site: MakeSite, postroom: Run, form: str) -> None:
    """The output for a site of many faults equals the reviewed one, byte for byte."""
    folder = make_site(POSTS, SETTINGS)
    outcome = postroom(folder, "check", "--format", form)
    assert outcome.code == 1
    made = outcome.err + outcome.out if form == "text" else outcome.out
    golden = GOLDEN / f"findings.{'json' if form == 'json' else f'{form}.txt'}"
    if os.environ.get("POSTROOM_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(made, "utf-8")
    advice = "look at what changed; if it is meant, run again with POSTROOM_GOLDEN=write"
    assert made == golden.read_text("utf-8"), advice
    assert (form == "text") == bool(outcome.err)


@pytest.mark.parametrize("form", ["json", "github"])
def test_build_errors_have_the_same_format(make_site: MakeSite, postroom: Run, form: str) -> None:
    """An error that stops the build is written in the format of findings."""
    folder = make_site({"posts/a.md": "---\ndate: soon\n---\n# A\n"})
    outcome = postroom(folder, "check", "--format", form)
    assert (outcome.code, outcome.err) == (1, "")
    if form == "json":
        (finding,) = json.loads(outcome.out)["findings"]
        assert (finding["path"], finding["line"], finding["rule"]) == ("posts/a.md", 2, "")
    else:
        assert outcome.out.startswith("::error file=posts/a.md,line=2,col=7,title=postroom::date: ")
    (folder / "postroom.yaml").write_text("title: [\n")
    assert postroom(folder, "check", "--format", form).code == 2


def test_fix_does_not_write_into_json(make_site: MakeSite, postroom: Run) -> None:
    """The changes of --fix are printed outside the JSON document."""
    folder = make_site({"posts/2026-11-20-a.md": "# A\n"}, SETTINGS)
    outcome = postroom(folder, "check", "--fix", "--format", "json")
    assert outcome.err == (
        "posts/2026-11-20-a.md: wrote id tag:news.example.com,2026:2026-11-20-a.md\n"
    )
    rules = {finding["rule"] for finding in json.loads(outcome.out)["findings"]}
    assert "post-id" not in rules


def test_annotations_name_files_from_the_root_of_the_repository(
    make_site: MakeSite, postroom: Run, tmp_path: Path
) -> None:
    """Annotations of a site in a folder of a repository have paths from the repository's root."""
    (tmp_path / ".git").mkdir()
    folder = make_site({"posts/2026-11-20-a.md": "# A\n"}, SETTINGS, name="site")
    (folder / "posts/deep").mkdir()
    for place in (folder, folder / "posts/deep"):
        lines = postroom(place, "check", "--format", "github").out.splitlines()
        assert lines[0].startswith("::warning file=site/posts/2026-11-20-a.md,line=1,title=post-id")


def unescaped(text: str) -> str:
    """Return the text that the runner of GitHub Actions reads from an escaped one."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


TEXT = st.text(st.sampled_from("ab%:,\r\n;=é 25A0D3C"), min_size=1, max_size=12)


@given(path=TEXT, what=TEXT, line=st.integers(0, 99))
def test_an_annotation_holds_any_text(path: str, what: str, line: int) -> None:
    """No path and no message ends a command or property early, or starts another."""
    finding = LintFinding(Problem(f"x/{path}/y", line, 0, "", what, "", "post-link"), "error")
    made = format_annotations([finding], "")
    assert made.endswith("\n")
    command, _, message = made[:-1].removeprefix("::").partition("::")
    assert "\n" not in made[:-1]
    assert "\r" not in made
    assert unescaped(message) == what
    name, _, values = command.partition(" ")
    properties = dict(value.split("=", 1) for value in values.split(","))
    assert name == "error"
    assert unescaped(properties["file"]) == f"x/{path}/y"
    assert properties.get("line", "0") == str(line)


@given(what=st.text(max_size=20), key=st.text(max_size=5))
def test_json_holds_any_text(what: str, key: str) -> None:
    """Every finding reads back unchanged from JSON."""
    finding = LintFinding(Problem("a.md", 3, 4, key, what, "repair", "post-link"), "warning")
    read = json.loads(format_json([finding]))
    assert (read["errors"], read["warnings"]) == (0, 1)
    assert read["findings"] == [
        {
            "severity": "warning", "rule": "post-link", "path": "a.md", "line": 3, "column": 4,
            "key": key, "what": what, "repair": "repair",
        }
    ]  # fmt: skip
