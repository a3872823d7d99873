"""One text of `posts/` → a draft: its head is checked, its body is still Markdown."""

from __future__ import annotations

import posixpath
import re
from datetime import date as calendar_date
from datetime import datetime
from urllib.parse import quote, urljoin

from attrs import field, frozen

from postroom import frontmatter, sitepaths
from postroom.errors import Problem
from postroom.frontmatter import Head, Moment
from postroom.markdown.text import first_heading
from postroom.model import Site
from postroom.posts.instants import day_of, instant_of, start_of
from postroom.yamltext import forbidden_characters, place_of

_DATED_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[-_ ]+(.+))?")


@frozen
class Draft:
    """A post half read; `path` counts from `posts/`, `instant` is what its date stands for.

    It may be seen from `begins` on and, if it `ends`, only until then.
    """

    path: str
    head: Head
    body: str
    body_line: int
    title: str
    id: str
    slug: str
    date: Moment
    instant: datetime
    day: calendar_date
    url: str
    begins: datetime
    ends: datetime | None

    def has_expired(self, at: datetime) -> bool:
        """Tell whether the post is over at the instant `at`."""
        return self.ends is not None and self.ends <= at


@frozen
class Report:
    """Errors and warnings, gathered over all posts."""

    root: str
    errors: list[Problem] = field(factory=list)
    warnings: list[Problem] = field(factory=list)

    def name(self, path: str) -> str:
        """Return the path of a post as it counts from the site."""
        return sitepaths.below(self.root, path)

    def error(self, one: Draft, key: str, what: str, repair: str) -> None:
        """Take an error in the head of a draft, on the line of its key."""
        line = one.head.lines.get(key, 1)
        self.errors.append(Problem(self.name(one.path), line, key=key, what=what, repair=repair))


def draft(path: str, data: bytes, site: Site, report: Report) -> Draft | None:
    """Return the draft that the bytes of the post at `path` make, or None with its errors taken."""
    name = report.name(path)
    text = _decoded(data, name, report)
    if text is None:
        return None
    parts = frontmatter.split(text)
    if parts is None:
        report.errors.append(
            Problem(name, 1, key="front matter", what="is never closed", repair="end it with ---")
        )
        return None
    head = Head()
    if parts.head is not None:
        head, errors, warnings = frontmatter.read(parts.head, name)
        report.errors.extend(errors)
        report.warnings.extend(warnings)
        if errors:
            return None
    return _identified(path, head, parts, site, report)


def _decoded(data: bytes, name: str, report: Report) -> str | None:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02X} is not UTF-8"
        report.errors.append(Problem(name, line, what=what, repair="save the file as UTF-8"))
        return None
    for offset, character in forbidden_characters(text):
        line, column = place_of(offset, text)
        what = f"found the character {character}, which no feed can hold"
        report.errors.append(Problem(name, line, column, what=what, repair="delete it"))
        return None
    return text


def _identified(
    path: str, head: Head, parts: frontmatter.Split, site: Site, report: Report
) -> Draft | None:
    name = report.name(path)
    stem = posixpath.splitext(posixpath.basename(path))[0]
    dated = _DATED_NAME.fullmatch(stem)
    heading, rest = first_heading(parts.body)
    title = head.title or heading
    moment = head.date or _day_in_name(dated, name, report)
    slug = head.slug or frontmatter.slugify((dated and dated[2]) or stem)
    for key, found, repair in (
        ("title", title, "add title: …, or begin the text with '# Title'"),
        ("date", moment or dated, f"add date: …, or name the file 2026-11-22-{stem}.md"),
        ("slug", slug, "add slug: …, in letters, digits and hyphens"),
    ):
        if not found:
            report.errors.append(Problem(name, 1, key=key, what="is missing", repair=repair))
    if not (title and moment and slug):
        return None
    identity = head.id or derived_id(site, path)
    if not head.id:
        repair = f'add id: "{identity}"'
        problem = Problem(name, 1, key="id", what="is missing", repair=repair, rule="post-id")
        report.warnings.append(problem)
    instant = instant_of(moment, identity, site)
    day = day_of(moment, instant, site)
    return Draft(
        path=path,
        head=head,
        body=rest if title == heading else parts.body,
        body_line=parts.body_line,
        title=title,
        id=identity,
        slug=slug,
        date=moment,
        instant=instant,
        day=day,
        url=urljoin(site.url, _permalink(site, slug, day, path)),
        begins=max(start_of(each, site) for each in (moment, *head.publish_dates)),
        ends=min((start_of(each, site) for each in head.expiry_dates), default=None),
    )


def derived_id(site: Site, path: str) -> str:
    """Return the id of the post at `path` under `posts/` that has none of its own."""
    return site.id + quote(path)


def _day_in_name(dated: re.Match[str] | None, name: str, report: Report) -> Moment | None:
    if not dated:
        return None
    try:
        day = calendar_date.fromisoformat(dated[1])
        if day.year in frontmatter.YEARS:
            return Moment(day)
    except ValueError:
        pass
    what = f"found {dated[1]} in the file's name"
    repair = f"name a day there is, from {frontmatter.YEARS[0]} to {frontmatter.YEARS[-1]}"
    report.errors.append(Problem(name, key="date", what=what, repair=repair))
    return None


def _permalink(site: Site, slug: str, day: calendar_date, path: str) -> str:
    stem = posixpath.splitext(path)[0]
    segments = (frontmatter.slugify(segment) for segment in stem.split("/"))
    filled = site.pages.permalink.format(
        year=f"{day.year:04}",
        month=f"{day.month:02}",
        day=f"{day.day:02}",
        slug=slug,
        path="/".join(segments),
    )
    return quote(filled.lstrip("/"))
