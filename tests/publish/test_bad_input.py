"""`postroom build` reports all errors of a site and leaves the published files unchanged."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import feedparser
import pytest
from attrs import frozen
from lxml import etree

from tests.support.site import POST, SETTINGS, CommandResult, MakeSite

Build = Callable[..., CommandResult]
REPLACE = "replace it with a file that can be read"
GOOD = {"posts/2026-11-20-we-moved.md": POST}


@pytest.fixture
def site_dir(make_site: MakeSite, postroom: Build) -> Path:
    """Return a site that was built once without problems."""
    folder = make_site(GOOD)
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return every file under `folder`: its bytes, and when it was last written."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(site_dir: Path, postroom: Build, code: int) -> list[str]:
    """Return the errors of a build that fails with `code` and leaves `public/` unchanged."""
    before = snapshot(site_dir / "public")
    outcome = postroom(site_dir, "build")
    assert (outcome.code, outcome.out) == (code, "")
    assert "Traceback" not in outcome.err
    assert outcome.err.splitlines() == [f"error: {line}" for line in outcome.errors]
    assert snapshot(site_dir / "public") == before
    assert before
    return outcome.errors


def write(site_dir: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files into a site."""
    for name, contents in files.items():
        path = site_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)


def post(head: str, body: str = "Hello.\n") -> str:
    """Return a post with this front matter and a body."""
    return f"---\n{head.rstrip()}\n---\n\n{body}"


HEAD = "title: A\ndate: 2026-11-20\nid: tag:news.example.com,2026:a\n"
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)

POSTS: Mapping[str, tuple[str | bytes, str]] = {
    "missing title": (
        post("date: 2026-11-20"),
        "posts/a.md:1: title: is missing; add title: …, or begin the text with '# Title'",
    ),
    "missing date": (
        post("title: A"),
        "posts/a.md:1: date: is missing; add date: …, or name the file 2026-11-22-a.md",
    ),
    "unreadable date": (
        post("title: A\ndate: 22.11.2026"),
        (
            "posts/a.md:3:7: date: found '22.11.2026';"
            " write a date such as 2026-11-22 or 2026-11-22 09:30"
        ),
    ),
    "impossible date": (
        post("title: A\ndate: 2026-02-30"),
        (
            "posts/a.md:3:7: date: found '2026-02-30';"
            " this day does not exist; write a date such as 2026-11-22"
        ),
    ),
    "impossible time": (
        post("title: A\ndate: 2026-11-20 25:00"),
        (
            "posts/a.md:3:7: date: found '2026-11-20 25:00';"
            " this time does not exist; write one such as 09:30"
        ),
    ),
    "duplicate slug": (
        post(HEAD + "slug: we-moved"),
        (
            "posts/a.md:5: slug: 'we-moved' makes the same URL as"
            " posts/2026-11-20-we-moved.md; write another slug: … in one of them"
        ),
    ),
    "duplicate id": (
        post("title: A\ndate: 2026-11-20\nid: tag:news.example.com,2026:we-moved"),
        (
            "posts/a.md:4: id: 'tag:news.example.com,2026:we-moved' is also the id of"
            " posts/2026-11-20-we-moved.md; change it in the post that is not published yet"
        ),
    ),
    "id that is no URI": (
        post("title: A\ndate: 2026-11-20\nid: we-moved"),
        (
            "posts/a.md:4:5: id: found 'we-moved';"
            " write a URI, such as tag:example.com,2026:first-post"
        ),
    ),
    "slug with blanks": (
        post(HEAD + "slug: We moved"),
        "posts/a.md:5:7: slug: found 'We moved'; write we-moved",
    ),
    "unclosed front matter": (
        f"---\n{HEAD}\nHello.\n",
        "posts/a.md:1: front matter: is never closed; end it with ---",
    ),
    "tabs": (
        post(HEAD + "image:\n\tsrc: a.png"),
        "posts/a.md:6:1: front matter: found a tab where YAML wants spaces; indent with spaces",
    ),
    "duplicate keys": (
        post("title: A\ndate: 2026-11-20\ntitle: B"),
        "posts/a.md:4:1: front matter: the key 'title' is already on line 2; keep one",
    ),
    "duplicate keys, nested": (
        post("title: A\nimage:\n  src: a\n  src: b"),
        "posts/a.md:5:3: front matter: the key 'src' is already on line 4; keep one",
    ),
    "100,000-deep list": (
        post("title: " + "[" * 100_000),
        "posts/a.md:2:1: front matter: longer than 16 KiB; shorten it",
    ),
    "15,000-deep list": (
        post("title: " + "[" * 15_000),
        "posts/a.md:2:39: front matter: nested more than 32 levels deep; flatten it",
    ),
    "alias bomb": (
        post(BOMB),
        (
            "posts/a.md:2:5: front matter: found the anchor &a0;"
            " write the value out, or put the value in quotes"
        ),
    ),
    "merge key": (
        post("title: A\nimage: {<<: {src: a}}"),
        "posts/a.md:3:9: front matter: found the merge key <<; write the keys out",
    ),
    "python tag": (
        post('title: !!python/object/apply:os.system ["touch /tmp/owned"]'),
        (
            "posts/a.md:2:8: front matter: found the tag !!python/object/apply:os.system;"
            " delete it, or quote the value"
        ),
    ),
    "colon in the title": (
        post("title: News: we moved\ndate: 2026-11-20"),
        "posts/a.md:2:12: front matter: found ': ' inside a value; put the value in quotes",
    ),
    "unclosed quote": (
        post('title: "We moved\ndate: 2026-11-20'),
        "posts/a.md:2:8: front matter: a quote is never closed; close it",
    ),
    "list as front matter": (
        post("- title\n- date"),
        "posts/a.md:2:1: found a list; write 'key: value' lines between the two '---'",
    ),
    "invalid UTF-8": (
        post(HEAD).encode() + b"M\xfcller\n",
        "posts/a.md:8: byte 0xFC is not UTF-8; save the file as UTF-8",
    ),
    "UTF-16": (
        post(HEAD).encode("utf-16"),
        "posts/a.md:1: byte 0xFF is not UTF-8; save the file as UTF-8",
    ),
    "NUL": (
        post(HEAD, "One\nt\0wo\n"),
        "posts/a.md:8:2: found the character U+0000, which no feed can hold; delete it",
    ),
    "U+FFFE": (
        post("title: A\ufffe\ndate: 2026-11-20"),
        "posts/a.md:2:9: found the character U+FFFE, which no feed can hold; delete it",
    ),
    "reference to a vertical tab": (
        post(HEAD, "&#8212; is fine,\n\nbut &#11; is not.\n"),
        "posts/a.md:9:5: a character reference makes U+000B, which no feed can hold; delete it",
    ),
    "escaped NUL": (
        post('title: "A\\0"\ndate: 2026-11-20'),
        "posts/a.md:2:8: front matter: the value holds the character U+0000; delete it",
    ),
    "lang: en_US": (
        post(HEAD + "lang: en_US"),
        "posts/a.md:5:7: lang: found 'en_US'; write en-US",
    ),
    "enclosure that is not there": (
        post(HEAD + "enclosure: talk.mp3"),
        (
            "posts/a.md:5: enclosure: 'talk.mp3' is neither a file beside the post nor an"
            " https:// URL; put it there, or correct the name"
        ),
    ),
}


@pytest.mark.parametrize(("contents", "expected"), POSTS.values(), ids=POSTS)
def test_an_invalid_post_is_reported_and_nothing_changes(
    site_dir: Path, postroom: Build, contents: str | bytes, expected: str
) -> None:
    """An error has file, line, key, value and hint; `public/` stays byte for byte."""
    write(site_dir, {"posts/a.md": contents})
    assert refused(site_dir, postroom, 1) == [expected]


def with_line(line: str) -> str:
    """Return valid settings in which `line` replaces the line of its key or is appended."""
    key = line.partition(":")[0]
    others = [setting for setting in SETTINGS.splitlines() if not setting.startswith(f"{key}:")]
    return "\n".join([*others, line]) + "\n"


BAD_SETTINGS: Mapping[str, tuple[str | bytes, str]] = {
    "unknown setting": (
        with_line("titel: News"),
        "postroom.yaml:6:1: titel: is not a known key; delete it, or did you mean 'title'?",
    ),
    "unknown setting, nested": (
        with_line("feeds: {entires: 3}"),
        (
            "postroom.yaml:6:9: feeds.entires: is not a known key;"
            " delete it, or did you mean 'entries'?"
        ),
    ),
    "unknown timezone": (
        with_line("timezone: Europe/Berln"),
        (
            "postroom.yaml:5:11: timezone: found 'Europe/Berln'; write an IANA name"
            " such as Europe/Berlin, or did you mean 'Europe/Berlin'?"
        ),
    ),
    "URL without scheme": (
        with_line("url: news.example.com"),
        "postroom.yaml:5:6: url: found 'news.example.com'; write https://news.example.com",
    ),
    "language: en_US": (
        with_line("language: en_US"),
        "postroom.yaml:5:11: language: found 'en_US'; write en-US",
    ),
    "output outside": (
        with_line("output: ../elsewhere"),
        (
            "postroom.yaml:6:9: output: found '../elsewhere';"
            " write a folder inside the site, such as public"
        ),
    ),
    "colour without quotes": (
        with_line("theme: {accent: #0b6b62}"),
        "postroom.yaml:6:17: '#' begins a comment; put the value in quotes",
    ),
    "not UTF-8": (
        b"title: M\xfcller\n",
        "postroom.yaml:1: is not UTF-8 text; save it as UTF-8",
    ),
    "20 MB": (
        SETTINGS + "#" * 20_000_000,
        "postroom.yaml:1:1: longer than 64 KiB; shorten it",
    ),
    "100,000-deep list": (
        "[" * 60_000,
        "postroom.yaml:1:33: nested more than 32 levels deep; flatten it",
    ),
}


@pytest.mark.parametrize(("contents", "expected"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_invalid_settings_are_reported_and_nothing_changes(
    site_dir: Path, postroom: Build, contents: str | bytes, expected: str
) -> None:
    """The exit code is 2, because no post must be corrected."""
    write(site_dir, {"postroom.yaml": contents})
    assert refused(site_dir, postroom, 2) == [expected]


def test_empty_settings_name_all_required_keys(site_dir: Path, postroom: Build) -> None:
    """Five settings are required, and all missing ones are reported at once."""
    write(site_dir, {"postroom.yaml": ""})
    assert refused(site_dir, postroom, 2) == [
        "postroom.yaml:1: id: is missing; add id: …",
        "postroom.yaml:1: language: is missing; add language: …",
        "postroom.yaml:1: timezone: is missing; add timezone: …",
        "postroom.yaml:1: title: is missing; add title: …",
        "postroom.yaml:1: url: is missing; add url: …",
    ]


def test_without_settings_there_is_no_site(site_dir: Path, postroom: Build) -> None:
    """The hint is to change to a site or to create one."""
    (site_dir / "postroom.yaml").unlink()
    assert refused(site_dir, postroom, 2) == [
        (
            "postroom.yaml: is neither in this folder nor in one above it;"
            " change to the folder of a site, or create one with: postroom init my-news"
        )
    ]


TEMPLATES = {
    "syntax error": (
        "<p>\n{% if %}\n",
        "2: Expected an expression, got 'end of statement block'; correct it",
    ),
    "undefined variable": ("<p>\n{{ nonesuch }}\n", "2: 'nonesuch' is undefined; correct it"),
    "undefined attribute": (
        "<p>\n\n{{ post.nonesuch }}\n",
        "3: 'Post object' has no attribute 'nonesuch'; correct it",
    ),
    "exception": ("<p>\n{{ 1 / 0 }}\n", "2: ZeroDivisionError: division by zero; correct it"),
    "forbidden attribute": (
        "<p>\n{{ ''.__class__ }}\n",
        "2: access to attribute '__class__' of 'str' object is unsafe.; templates may not do this",
    ),
    "unknown filter": (
        "{{ post.title | nonesuch }}\n",
        "1: No filter named 'nonesuch'.; correct it",
    ),
    "change of a value": (
        "{{ post.extra.update(a=1) }}\n",
        "1: access to attribute 'update' of 'dict' object is unsafe.; templates may not do this",
    ),
    "endless range": (
        "{% for n in range(10 ** 9) %}{% endfor %}\n",
        (
            "1: OverflowError: Range too big. The sandbox blocks ranges larger than"
            " MAX_RANGE (100000).; correct it"
        ),
    ),
}


@pytest.mark.parametrize(("contents", "expected"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_failing_template_is_reported_by_file_and_line(
    site_dir: Path, postroom: Build, contents: str, expected: str
) -> None:
    """An error in a template of the site is reported with the line of the template."""
    write(site_dir, {"templates/pages/post.html": contents})
    assert refused(site_dir, postroom, 1) == [f"templates/pages/post.html:{expected}"]


def test_an_endless_template_is_stopped(site_dir: Path, postroom: Build) -> None:
    """A template that includes itself is an error and does not crash the program."""
    write(site_dir, {"templates/pages/post.html": "{% include 'pages/post.html' %}\n"})
    (expected,) = refused(site_dir, postroom, 1)
    assert expected.startswith("templates/pages/post.html:1: RecursionError: ")


def test_an_unreadable_post_is_reported(site_dir: Path, postroom: Build, tmp_path: Path) -> None:
    """Circular links, dangling links and links out of the site are errors."""
    (tmp_path / "secret.md").write_text("# Secret\n")
    for name, target in (("a.md", "a.md"), ("b.md", "gone.md"), ("c.md", "../../secret.md")):
        (site_dir / "posts" / name).symlink_to(target)
    os.mkfifo(site_dir / "posts/d.md")

    assert refused(site_dir, postroom, 1) == [
        f"posts/a.md: cannot be read: too many levels of symbolic links; {REPLACE}",
        f"posts/b.md: cannot be read: no such file or directory; {REPLACE}",
        f"posts/c.md: leads out of the site; {REPLACE}",
        f"posts/d.md: is not a file; {REPLACE}",
    ]


def test_twenty_megabytes_of_front_matter_take_no_time(site_dir: Path, postroom: Build) -> None:
    """Front matter that is too long is refused before it is parsed."""
    line = "key: " + "x" * 995 + "\n"
    write(site_dir, {"posts/a.md": post(HEAD + "summary: |\n" + f"  {line}" * 20_000)})
    started = time.process_time()
    assert refused(site_dir, postroom, 1) == [
        "posts/a.md:2:1: front matter: longer than 16 KiB; shorten it"
    ]
    assert time.process_time() - started < 2


def test_all_errors_are_reported_in_one_run(site_dir: Path, postroom: Build) -> None:
    """One run reports all errors."""
    write(
        site_dir,
        {
            "posts/a.md": post("title: A\ndate: soon\nslug: A B\ndraft: perhaps\n"),
            "posts/b.md": post("title: A: B"),
            "posts/c.md": b"\xff",
            "posts/2026/d.md": "No title, no date.\n",
            "posts/2026-11-19-we-moved.md": POST,
            "posts/2026-11-18-e.md": "# E\n\n&#x0;&#x1;\n",
        },
    )
    (site_dir / "posts/f.md").symlink_to("gone.md")
    assert refused(site_dir, postroom, 1) == [
        (
            "posts/2026-11-18-e.md:3:6: a character reference makes U+0001,"
            " which no feed can hold; delete it"
        ),
        (
            "posts/2026-11-20-we-moved.md:1: slug: 'we-moved' makes the same URL as"
            " posts/2026-11-19-we-moved.md; write another slug: … in one of them"
        ),
        (
            "posts/2026-11-20-we-moved.md:4: id: 'tag:news.example.com,2026:we-moved' is also"
            " the id of posts/2026-11-19-we-moved.md;"
            " change it in the post that is not published yet"
        ),
        "posts/2026/d.md:1: date: is missing; add date: …, or name the file 2026-11-22-d.md",
        "posts/2026/d.md:1: title: is missing; add title: …, or begin the text with '# Title'",
        ("posts/a.md:3:7: date: found 'soon'; write a date such as 2026-11-22 or 2026-11-22 09:30"),
        "posts/a.md:4:7: slug: found 'A B'; write a-b",
        "posts/a.md:5:8: draft: found 'perhaps'; write true or false",
        "posts/b.md:2:9: front matter: found ': ' inside a value; put the value in quotes",
        "posts/c.md:1: byte 0xFF is not UTF-8; save the file as UTF-8",
        f"posts/f.md: cannot be read: no such file or directory; {REPLACE}",
    ]


def test_a_corrected_site_builds_again(site_dir: Path, postroom: Build) -> None:
    """A refused build leaves no file that stops the next one."""
    write(site_dir, {"posts/a.md": post("title: A")})
    refused(site_dir, postroom, 1)
    write(site_dir, {"posts/a.md": post(HEAD)})
    outcome = postroom(site_dir, "build")
    assert (outcome.code, outcome.err) == (0, "")
    assert (site_dir / "public/posts/a/index.html").is_file()


def test_no_posts_yet_make_an_empty_feed_and_a_hint(make_site: MakeSite, postroom: Build) -> None:
    """A new site builds, its feed is valid, and the output names the next step."""
    folder = make_site()
    outcome = postroom(folder, "build")
    first, hint = outcome.out.splitlines()
    assert (outcome.code, outcome.err) == (0, "")
    assert first.startswith("0 posts → public/")
    assert hint == 'no post is published yet; write one with: postroom new "What happened"'
    feed = etree.parse(folder / "public/atom.xml")
    names = {"a": "http://www.w3.org/2005/Atom"}
    assert feed.xpath("string(/a:feed/a:updated)", namespaces=names) == "2000-01-01T00:00:00+00:00"
    assert feed.xpath("count(//a:entry)", namespaces=names) == 0
    assert feedparser.parse(folder / "public/atom.xml").bozo == 0


def test_posts_held_back_are_counted_beside_the_hint(make_site: MakeSite, postroom: Build) -> None:
    """The build prints how many posts wait or are drafts."""
    folder = make_site(
        {"posts/2026-12-24-a.md": "# A\n", "posts/2026-11-20-b.md": "---\ndraft: yes\n---\n# B\n"}
    )
    outcome = postroom(folder, "build")
    assert outcome.code == 0
    assert outcome.out.startswith("0 posts → public/, 1 waiting for their date, 1 draft")
    assert outcome.out.splitlines()[1].startswith("no post is published yet")


def test_a_missing_folder_of_posts_is_no_empty_site(site_dir: Path, postroom: Build) -> None:
    """A renamed folder of posts is an error, so that no feed becomes empty."""
    shutil.move(site_dir / "posts", site_dir / "news")
    assert refused(site_dir, postroom, 1) == [
        "posts: is not a folder; create it, or set posts: in postroom.yaml"
    ]


@frozen
class FrontMatter:
    """Valid front matter, however unusual."""

    text: str
    title: str


ODD = {
    "no": FrontMatter("title: no", "no"),
    "number": FrontMatter("title: 1.10", "1.10"),
    "time": FrontMatter("title: 12:30", "12:30"),
    "octal": FrontMatter("title: 017", "017"),
    "date": FrontMatter("title: 2026-11-22", "2026-11-22"),
    "quotes": FrontMatter("title: 'News: it''s \"here\"'", 'News: it\'s "here"'),
    "mark-up": FrontMatter(
        "title: <script>alert(1)</script> & more", "<script>alert(1)</script> & more"
    ),
    "two lines": FrontMatter("title: We\n  moved", "We moved"),
    "right to left": FrontMatter("title: انتقلنا", "انتقلنا"),
    "invisible break": FrontMatter("title: We\u2028moved", "We moved"),
}


@pytest.mark.parametrize("head", ODD.values(), ids=ODD)
def test_an_unusual_title_reaches_the_feed_unchanged(
    make_site: MakeSite, postroom: Build, head: FrontMatter
) -> None:
    """No value is converted on the way from front matter to the feed."""
    text = post(f"{head.text}\ndate: 2026-11-20\nid: urn:x-a:b")
    folder = make_site({"posts/a.md": text})
    outcome = postroom(folder, "build")
    assert (outcome.code, outcome.err) == (0, "")
    feed = etree.parse(folder / "public/atom.xml")
    names = {"a": "http://www.w3.org/2005/Atom"}
    assert feed.xpath("string(//a:entry/a:title)", namespaces=names) == head.title


def test_control_characters_are_left_out(make_site: MakeSite, postroom: Build) -> None:
    """Each control character is named with its line and column, and the post is published."""
    text = post("title: A\x08\ndate: 2026-11-20", "On\x0be\x0c.\n\n\x1f# T\x01wo\n")
    site_dir = make_site({"posts/a.md": text})
    outcome = postroom(site_dir, "build")
    places = {"2:9": "0008", "6:3": "000B", "6:5": "000C", "8:1": "001F", "8:5": "0001"}
    assert outcome.code == 0
    assert [line for line in outcome.warnings if "character" in line] == [
        f"posts/a.md:{place}: the character U+{code} is left out, because no feed can hold it;"
        " delete it"
        for place, code in places.items()
    ]
    (page,) = (site_dir / "public/posts").glob("*/index.html")
    assert "<p>One.</p>" in page.read_text()
    assert "<title>A · " in page.read_text()


def test_a_few_control_characters_are_named(make_site: MakeSite, postroom: Build) -> None:
    """A post full of them does not fill the screen."""
    outcome = postroom(make_site({"posts/a.md": post(HEAD, "\x0b" * 5000)}), "build")
    assert len([line for line in outcome.warnings if "U+000B" in line]) == 20
