"""`postroom check`: its output, its exit codes and the changes of `--fix`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import ContentError
from postroom.lint.context import LintContext
from postroom.lint.runner import LintTarget, run_rules
from postroom.posts import front_matter, loader
from postroom.posts.edit import with_id, write_id, write_topic
from postroom.posts.source import scan_folder
from postroom.publish.build import make_outputs
from postroom.publish.output import replace_output
from postroom.settings.site import parse_settings
from tests.support.generated_sites import SETTINGS as MORE
from tests.support.generated_sites import site_files
from tests.support.site import POST, SETTINGS, CommandResult, MakeSite

Run = Callable[..., CommandResult]
ID = "tag:news.example.com,2026:a.md"
LINE = f'id: "{ID}"'
SUMMARY = "Our office has a new address, and we look forward to seeing you there."
POST = POST.replace("Our office has a new address.", SUMMARY)
NAMELESS = POST.replace("id: tag:news.example.com,2026:we-moved\n", "")


def test_a_correct_site_passes(make_site: MakeSite, postroom: Run) -> None:
    """A check of a correct site prints only the count and writes nothing."""
    folder = make_site({"posts/a.md": POST})
    outcome = postroom(folder, "check")
    assert (outcome.code, outcome.out, outcome.err) == (0, "0 errors, 0 warnings\n", "")
    assert sorted(path.name for path in folder.rglob("*")) == ["a.md", "postroom.yaml", "posts"]


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--strict",), 1)])
def test_warnings_fail_when_strict(
    make_site: MakeSite, postroom: Run, options: tuple[str, ...], code: int
) -> None:
    """A warning is printed with the name of its rule, and is a failure with --strict."""
    outcome = postroom(make_site({"posts/a.md": NAMELESS}), "check", *options)
    assert outcome.code == code
    assert outcome.warnings == [f'posts/a.md:1: id: is missing; add id: "{ID}" [post-id]']
    assert outcome.out == "0 errors, 1 warning\n"


def test_strict_passes_a_correct_site(make_site: MakeSite, postroom: Run) -> None:
    """--strict changes nothing for a correct site."""
    assert postroom(make_site({"posts/a.md": POST}), "check", "--strict").code == 0


def test_an_invalid_feed_is_an_error(make_site: MakeSite, postroom: Run) -> None:
    """An invalid feed is an error with the file, the rule and a hint."""
    text = POST.replace("title: We moved", "title: We <b>moved</b>")
    outcome = postroom(make_site({"posts/a.md": text}), "check")
    assert outcome.code == 1
    assert outcome.errors[0] == (
        "public/atom.xml: title: 'We <b>moved</b>' contains HTML, in 4 files;"
        " write the title as plain text [feed-title]"
    )
    # The feeds of the site and of its topic, in both formats, are one finding.
    assert outcome.out == "1 error, 0 warnings\n"


@pytest.mark.parametrize(
    "title",
    [
        "How <dl> works",
        "How <hello-world> became Vec<T>",
        "if a < b > c",
        "From <b> to <strong>",
        "&c; and &nbsp;",
        "</p>",
    ],
)
def test_a_title_may_name_tags(make_site: MakeSite, postroom: Run, title: str) -> None:
    """A title is plain text, so it may name elements and types; feeds escape them."""
    folder = make_site({"posts/a.md": POST.replace("title: We moved", f"title: '{title}'")})
    assert postroom(folder, "check", "--strict").errors == []
    body = POST.replace("title: We moved\n", "").replace("---\n\n", f"---\n\n# `{title}`\n\n")
    assert body.count("# `") == 1
    folder = make_site({"posts/a.md": body}, name="heading")
    assert postroom(folder, "check", "--strict").errors == []


def test_invalid_posts_stop_the_check(make_site: MakeSite, postroom: Run) -> None:
    """A post that cannot be published is an error, and --fix then writes nothing."""
    folder = make_site({"posts/a.md": NAMELESS, "posts/b.md": "# No date\n"})
    outcome = postroom(folder, "check", "--fix")
    assert outcome.code == 1
    assert [error.partition(";")[0] for error in outcome.errors] == [
        "posts/b.md:1: date: is missing"
    ]
    assert (folder / "posts/a.md").read_text() == NAMELESS


def test_the_instant_can_be_set(make_site: MakeSite, postroom: Run) -> None:
    """--at checks the feeds of another instant."""
    text = POST.replace("title: We moved", "title: <b>x</b>").replace("2026-11-20", "2026-12-24")
    folder = make_site({"posts/a.md": text})
    assert postroom(folder, "check").code == 0
    assert postroom(folder, "check", "--at", "2026-12-24T12:00:00Z").code == 1


def test_fix_writes_the_ids(make_site: MakeSite, postroom: Run) -> None:
    """--fix writes and prints the ids of all posts, drafts too; a second run changes nothing."""
    draft = NAMELESS.replace("title:", "draft: true\ntitle:")
    later = NAMELESS.replace("2026-11-20", "2027-01-01")
    names = {"a.md": NAMELESS, "b.md": draft, "c.md": later.replace("We moved", "C"), "d.md": POST}
    files = {f"posts/{name}": text for name, text in names.items()}
    folder = make_site(files, "checks: {page-title: off, email-preheader: off}\n")
    outcome = postroom(folder, "check", "--fix", "--strict")
    base = "tag:news.example.com,2026:"
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        *(f"posts/{name}.md: wrote id {base}{name}.md" for name in "abc"),
        "0 errors, 0 warnings",
    ]
    before = {path: path.read_bytes() for path in (folder / "posts").iterdir()}
    assert before[folder / "posts/d.md"] == POST.encode()
    assert postroom(folder, "check", "--fix").out == "0 errors, 0 warnings\n"
    assert {path: path.read_bytes() for path in (folder / "posts").iterdir()} == before


def test_one_uneditable_post_stops_no_other(make_site: MakeSite, postroom: Run) -> None:
    """A post that cannot be edited is an error; every other post gets its id."""
    flow = "---\n{title: Flow, date: 2026-01-01}\n---\nText.\n"
    returns = NAMELESS.replace("\n", "\r")
    texts = {"posts/a.md": flow, "posts/b.md": returns, "posts/c.md": NAMELESS.replace("We", "C")}
    folder = make_site(texts, 'pages: {permalink: "/{path}/"}\n')
    outcome = postroom(folder, "check", "--fix")
    assert outcome.code == 1
    assert outcome.errors == [
        f"posts/{name}.md:1: id: cannot be written here; add it by hand" for name in "ab"
    ]
    assert outcome.out == "posts/c.md: wrote id tag:news.example.com,2026:c.md\n"
    assert (folder / "posts/a.md").read_bytes() == flow.encode()
    assert (folder / "posts/b.md").read_bytes() == returns.encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("---\ntitle: A\n---\nText\n", f"---\ntitle: A\n{LINE}\n---\nText\n"),
        ("# A\n\nText", f"---\n{LINE}\n---\n\n# A\n\nText"),
        ("# A\r\nText\r\n", f"---\r\n{LINE}\r\n---\r\n\r\n# A\r\nText\r\n"),
        ("\ufeff# A\n", f"\ufeff---\n{LINE}\n---\n\n# A\n"),
        ("\ufeff---\ntitle: A\n---\n", f"\ufeff---\ntitle: A\n{LINE}\n---\n"),
        ("---\r\ntitle: A\r\n---\r\nB", f"---\r\ntitle: A\r\n{LINE}\r\n---\r\nB"),
        ("---\ntitle: A\n---", f"---\ntitle: A\n{LINE}\n---"),
        ("---\n---\n# A\n", f"---\n{LINE}\n---\n# A\n"),
        ("---\n# note\n---\n# A\n", f"---\n# note\n{LINE}\n---\n# A\n"),
        ("---\nid:\ntitle: 'A' # c\n---\n", f"---\n{LINE}\ntitle: 'A' # c\n---\n"),
        ("---\nid: ~  # later\ntitle: A\n---\n", f"---\n{LINE}  # later\ntitle: A\n---\n"),
        ("---\nid: Null\ntitle: A\n---\n", f"---\n{LINE}\ntitle: A\n---\n"),
        ("---\r\nid: \r\ntitle: A\r\n---\r\n", f"---\r\n{LINE} \r\ntitle: A\r\n---\r\n"),
        ("---\ntopics:\n- a\n- b\n---\n", f"---\ntopics:\n- a\n- b\n{LINE}\n---\n"),
        ("---\nsummary: |+\n  id:\n\n---\n", f"---\nsummary: |+\n  id:\n\n{LINE}\n---\n"),
        ("---\ntitle: A\n---\nid:\n---\n", f"---\ntitle: A\n{LINE}\n---\nid:\n---\n"),
        ("# A\n\n---\ntitle: B\n---\n", f"---\n{LINE}\n---\n\n# A\n\n---\ntitle: B\n---\n"),
    ],
    ids=[
        "head", "no-head", "no-head-crlf", "bom-no-head", "bom", "crlf", "no-final-newline",
        "empty-head", "comment-only", "empty-id", "null-and-comment", "null", "empty-id-crlf",
        "list", "id-in-block", "id-in-body", "rules-in-body",
    ],
)  # fmt: skip
def test_adding_an_id_changes_one_line(tmp_path: Path, before: str, after: str) -> None:
    """Only the line of the id is added; line ends and comments stay."""
    file = tmp_path / "a.md"
    file.write_bytes(before.encode())
    file.chmod(0o640)
    write_id(file, "posts/a.md", ID)
    assert file.read_bytes() == after.encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]


@pytest.mark.parametrize(
    "text",
    [
        "---\n{title: A, date: 2026-01-01}\n---\nText\n",
        "---\n  title: A\n  date: 2026-01-01\n---\nText\n",
        "---\ntitle: A\n...\n---\nText\n",
        '---\n"id": \ntitle: A\n---\nText\n',
        "---\rtitle: A\r---\rText\r",
        "---\ntitle: A\nText\n",
    ],
    ids=["flow", "indented", "document-end", "quoted-key", "old-mac", "never-closed"],
)
def test_uneditable_front_matter_stays(tmp_path: Path, text: str) -> None:
    """A file to which no line can be added safely is reported and unchanged."""
    file = tmp_path / "a.md"
    file.write_bytes(text.encode())
    with pytest.raises(ContentError) as caught:
        write_id(file, "posts/a.md", ID)
    assert str(caught.value) == "posts/a.md:1: id: cannot be written here; add it by hand"
    assert file.read_bytes() == text.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]


def test_a_linked_post_is_left_to_its_author(tmp_path: Path) -> None:
    """A post that is a symbolic link gets no id; the message names what to do."""
    text = "---\ntitle: A\n---\n"
    (tmp_path / "real.md").write_text(text)
    (tmp_path / "a.md").symlink_to("real.md")
    with pytest.raises(ContentError, match=r"posts/a\.md: id: is a symbolic link") as caught:
        write_id(tmp_path / "a.md", "posts/a.md", ID)
    assert f"add {LINE} to the file that it leads to" in str(caught.value)
    assert (tmp_path / "real.md").read_text() == text


LINES = st.sampled_from(
    [
        "title: A", "title: 'it''s'", 'title: "q: \\" #"', "date: 2026-01-01 # when", "# comment",
        "", "topics: [a, 'b']", "topics:\n  - a\n  - b", "summary: >\n  folded\n  lines",
        "summary: |-\n  id:\n  ---", "other: {deep: [1, 2]}", "lang: de", "title: 公司",
        "id:", "id: null # soon", "id: ''", "summary: one\n  two",
    ]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\r\n"])


@given(
    lines=st.lists(LINES, max_size=6, unique_by=lambda line: line.partition(":")[0]),
    end=ENDS,
    body=st.sampled_from(["", "\n", "Text", "# A\n\n---\nid:\n---\n", "\n\n  text  \n\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
@settings(deadline=None, max_examples=150)
def test_any_front_matter_gets_an_id_and_keeps_the_rest(
    *, lines: list[str], end: str, body: str, mark: str
) -> None:
    """Only the id's line is added to any front matter, and a second run changes nothing."""
    before = mark + "\n".join(["---", *lines, "---", body]).replace("\n", end)
    after = with_id(before, ID)
    other_lines = [
        line for line in after.splitlines(keepends=True) if not line.startswith('id: "tag:')
    ]
    was = before.splitlines(keepends=True)
    if any(line.startswith("id:") for line in lines):
        first = next(number for number, line in enumerate(was) if line.startswith("id:"))
        del was[first]
    assert other_lines == was
    assert after.count(LINE) == 1
    parts = front_matter.split_post(after.removeprefix("\ufeff").replace("\r\n", "\n"))
    assert parts is not None
    head, errors, _ = front_matter.parse_front_matter(parts.head or "", "a.md")
    assert (errors, head.id) == ([], ID)
    assert parts.body == body


@given(body=st.text(st.sampled_from("ab \n-#:é"), max_size=30), end=ENDS)
@settings(deadline=None, max_examples=100)
def test_a_post_without_front_matter_gets_some(*, body: str, end: str) -> None:
    """A post without front matter gets one line of it; its text is unchanged."""
    before = ("# A\n" + body).replace("\n", end)
    after = with_id(before, ID)
    assert after == f"---{end}{LINE}{end}---{end}{end}{before}"
    assert re.match(r"---\r?\nid: ", after)


TOPICS = [
    ("topics: [our News, Market]", "topics: [Our news, Market]"),
    ("topics: [Market,our News]  # two", "topics: [Market,Our news]  # two"),
    ("topics:\n- 'our News'\n- Market", "topics:\n- 'Our news'\n- Market"),
    ('topics:\n  - Market\n  - "our News" # ours', 'topics:\n  - Market\n  - "Our news" # ours'),
    ("topics: our News", "topics: Our news"),
    ("topics: [our News]\r\nother: our News", "topics: [Our news]\r\nother: our News"),
    ("topics: [OUR-NEWS, our News]", "topics: [OUR-NEWS, Our news]"),
]


@pytest.mark.parametrize(("before", "after"), TOPICS)
def test_respelling_a_topic_changes_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    """The usual spelling replaces the unusual one, and no other byte changes."""
    file = tmp_path / "a.md"
    text = "---\ntitle: our News\n{}\n---\nAll of our News\ntopics: [our News]\n"
    file.write_bytes(text.format(before).encode())
    assert write_topic(file, "our News", "Our news")
    assert file.read_bytes() == text.format(after).encode()


@pytest.mark.parametrize(
    "head",
    [
        "topics: [our   News]",
        "topics: ['our\n  News']",
        'topics: ["o\\x75r News"]',
        '"topics": [our News]',
        "other:\n  topics: [our News]",
        "title: A",
    ],
)
def test_a_topic_that_cannot_be_replaced_stays(tmp_path: Path, head: str) -> None:
    """A spelling that is not one plain item of a list is left to the author."""
    file = tmp_path / "a.md"
    text = f"---\n{head}\n---\nText\n"
    file.write_text(text)
    assert not write_topic(file, "our News", "Our news")
    assert file.read_text() == text


def test_a_spelling_with_meaning_in_yaml_is_not_written(tmp_path: Path) -> None:
    """A spelling that would end its list or become a comment is left to the author."""
    file = tmp_path / "a.md"
    file.write_text("---\ntopics: [a b]\n---\nText\n")
    for usual in ("a, b", "a #b", "a]b", "a: b"):
        assert not write_topic(file, "a b", usual)
    assert file.read_text() == "---\ntopics: [a b]\n---\nText\n"


def test_fix_writes_the_usual_spelling(make_site: MakeSite, postroom: Run) -> None:
    """--fix prints each topic that it corrects, and the next check has no finding."""
    text = POST.replace("Company news", "company News").replace("we-moved", "b")
    files = {"posts/a.md": POST, "posts/b.md": text.replace("We moved", "B").replace("-20", "-21")}
    folder = make_site(files, "checks: {email-preheader: off}\n")
    assert "post-topic" in postroom(folder, "check").err
    outcome = postroom(folder, "check", "--fix")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "posts/b.md: wrote topic Company news\n0 errors, 0 warnings\n"


@pytest.mark.slow
def test_linting_is_faster_than_building(tmp_path: Path) -> None:
    """Linting 2,000 posts takes less time than building them."""
    for name, contents in site_files(2000).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    site = parse_settings((SETTINGS + MORE).encode())
    at = datetime(2030, 1, 1, tzinfo=UTC)
    began = time.process_time()
    scanned = scan_folder(tmp_path, site.posts)
    loaded, drafts = loader.read_every_post(scanned, site, at)
    replace_output(tmp_path / "output", make_outputs(tmp_path, site, loaded.posts))
    built = time.process_time()
    found = run_rules(
        LintContext(site, at, scanned, loaded, drafts), LintTarget(tmp_path / "output")
    )
    looked = time.process_time()
    assert len(loaded.posts) == 2000
    assert len(found) > 2000
    assert looked - built < built - began
