"""Posts → their topics, each with addresses that do not depend on the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from attrs import frozen

from postroom.errors import ContentError, Problem
from postroom.markdown.html import DEEPEST, DepthError, add_image_sizes, to_html
from postroom.markdown.plaintext import first_paragraph, to_text
from postroom.media_types import media_type
from postroom.models import Enclosure, Html, Image, Post, Site, Topic
from postroom.posts.front_matter import date_from_node, day_of, instant_of, start_of, to_site_time
from postroom.posts.source import (
    Attachments,
    PostProblems,
    SourceFolder,
    SourcePost,
    parse_post,
    scan_folder,
)
from postroom.settings.yaml_reader import forbidden_characters, line_and_column
from postroom.text import topic_slug


def group_by_topic(posts: Sequence[Post], site: Site) -> tuple[Topic, ...]:
    """Return the topics of the settings in their order, then those of the posts by name.

    Names that differ in case or punctuation alone are one topic, called as the settings call it,
    else as the oldest post does.
    """
    names: dict[str, str] = {topic_slug(name): name for name in site.topics}
    found: dict[str, str] = {}
    held: dict[str, list[Post]] = {}
    for post in posts:
        slugs = {topic_slug(name): name for name in reversed(post.topics)}
        found.update(slugs)
        for slug in slugs:
            held.setdefault(slug, []).append(post)
    rest = sorted((slug for slug in found if slug not in names), key=lambda slug: slug.casefold())
    names.update((slug, found[slug]) for slug in rest)
    return tuple(
        Topic(name, slug, urljoin(site.url, f"topics/{quote(slug)}/"), tuple(held.get(slug, ())))
        for slug, name in names.items()
        if slug
    )


@frozen
class TopicSpelling:
    """A topic that a post spells as others do not; `usual` is empty if it makes no address."""

    path: str
    written: str
    usual: str


def find_spellings(posts: Iterable[Post], known: Iterable[Topic]) -> list[TopicSpelling]:
    """Return each odd spelling of a topic, and names without letters."""
    names = {topic.slug: topic.name for topic in known}
    named = [
        (post, name, names.get(topic_slug(name), "")) for post in posts for name in post.topics
    ]
    return [TopicSpelling(post.path, name, usual) for post, name, usual in named if usual != name]


def spelling_warning(odd: TopicSpelling, line: int) -> Problem:
    """Return the warning of an odd spelling on `line`."""
    what, repair = f"found '{odd.written}'", f"others write '{odd.usual}'"
    if not odd.usual:
        what, repair = f"'{odd.written}' makes no address", "write it in letters"
    return Problem(odd.path, line, 0, "topics", what, repair, "post-topic")


_REFERENCE = re.compile(r"&#(?:[xX]([0-9A-Fa-f]{1,8})|([0-9]{1,8}))")


@frozen
class _Times:
    """When a post was published and last changed, and whether that change took it back."""

    published: datetime
    updated: datetime
    updated_day: date
    withdrawn: bool


@frozen
class LoadedPosts:
    """The posts that are due, newest first, and what else there is to say.

    `unnamed` holds the path and the derived id of each post that has none of its own.
    """

    posts: tuple[Post, ...]
    waiting: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    unnamed: tuple[tuple[str, str], ...] = ()
    odd_topics: tuple[TopicSpelling, ...] = ()
    warnings: tuple[Problem, ...] = ()


def load_posts(site_dir: Path, site: Site, at: datetime, *, drafts: bool = False) -> LoadedPosts:
    """Read all posts of the newsroom in the folder `site_dir` as they stand at the instant `at`.

    Raises `ContentError` with every fault of every post.
    """
    return read_posts(scan_folder(site_dir, site.posts, site.output), site, at, drafts=drafts)


def read_posts(
    folder: SourceFolder, site: Site, at: datetime, *, drafts: bool = False
) -> LoadedPosts:
    """Return the posts that the texts of `folder` make at the instant `at`.

    Raises `ContentError` with every fault of every post.
    """
    return read_every_post(folder, site, at, drafts=drafts)[0]


def read_every_post(
    folder: SourceFolder, site: Site, at: datetime, *, drafts: bool = False
) -> tuple[LoadedPosts, tuple[SourcePost, ...]]:
    """Return what `read` returns, and every text as its author wrote it: drafts, too.

    Raises `ContentError` with every fault of every post.
    """
    report = PostProblems(site.posts, list(folder.problems))
    known = list(
        filter(None, (parse_post(path, data, site, report) for path, data in folder.texts.items()))
    )
    shown = [one for one in known if drafts or not one.head.draft]
    kept = [one for one in shown if not one.has_expired(at)]
    _refuse_twins(kept, report)
    times = _timeline(kept, at, site)
    # A link keeps its address when the post that it leads to expires.
    urls = {one.path: one.url for one in shown}
    posts = {
        one.path: _post(one, times[one.path], Attachments(one, urls, folder, site), report)
        for one in kept
    }
    if report.errors:
        raise ContentError(report.errors)
    due = [posts[one.path] for one in kept if one.begins <= at]
    names = {report.name(one.path) for one in kept} - {post.path for post in due}
    odd = _spellings(posts, site)
    lines = {report.name(one.path): one.head.lines.get("topics", 1) for one in kept}
    odd_warnings = (spelling_warning(one, lines[one.path]) for one in odd)
    loaded = LoadedPosts(
        posts=tuple(sorted(due, key=lambda post: post.published, reverse=True)),
        waiting=tuple(sorted(names)),
        drafts=tuple(report.name(one.path) for one in known if one.head.draft),
        expired=tuple(report.name(one.path) for one in shown if one.has_expired(at)),
        unnamed=tuple((report.name(one.path), one.id) for one in known if not one.head.id),
        odd_topics=tuple(odd),
        warnings=tuple(sorted((*report.warnings, *odd_warnings))),
    )
    return loaded, tuple(known)


def _spellings(posts: Mapping[str, Post], site: Site) -> list[TopicSpelling]:
    known = sorted(posts.values(), key=lambda post: post.published, reverse=True)
    return find_spellings(known, group_by_topic(known, site))


def _refuse_twins(drafts: list[SourcePost], report: PostProblems) -> None:
    by_id: dict[str, SourcePost] = {}
    by_url: dict[str, SourcePost] = {}
    for one in drafts:
        first = by_id.setdefault(one.id, one)
        if first is not one:
            what = f"'{one.id}' is the id of {report.name(first.path)} too"
            report.error(one, "id", what, "give another to the one that is not published yet")
        first = by_url.setdefault(one.url.casefold(), one)
        if first is not one:
            what = f"'{one.slug}' leads to the address of {report.name(first.path)} too"
            report.error(one, "slug", what, "give one of them another slug: …")


def _timeline(drafts: Iterable[SourcePost], at: datetime, site: Site) -> dict[str, _Times]:
    """Return when each draft, by its path, was published and last changed.

    No two instants are equal: of equal ones the later in order of (date, id) moves on.
    """
    taken: dict[datetime, datetime] = {}
    published: dict[str, datetime] = {}
    in_order = sorted(drafts, key=lambda one: (one.instant, one.id))
    for one in in_order:
        published[one.path] = date_from_node(one.instant, taken)
    times = {}
    for one in in_order:
        first = to_site_time(published[one.path], site)
        times[one.path] = _Times(first, first, one.day, withdrawn=False)
        for moment, withdrawn in ((one.head.withdrawn, True), (one.head.updated, False)):
            instant = moment and instant_of(moment, one.id, site)
            if moment and instant and start_of(moment, site) <= at:
                last = to_site_time(date_from_node(instant, taken), site)
                day = day_of(moment, last, site)
                times[one.path] = _Times(first, last, day, withdrawn)
                break
    return times


def _post(one: SourcePost, times: _Times, beside: Attachments, report: PostProblems) -> Post:
    head = one.head
    html, text = _contents(one, beside, report)
    post = Post(
        id=one.id,
        slug=one.slug,
        title=one.title,
        url=one.url,
        path=report.name(one.path),
        published=times.published,
        updated=times.updated,
        day=one.day,
        updated_day=times.updated_day,
        html=html,
        summary=head.summary or first_paragraph(one.body),
        text=text,
        topics=head.topics,
        authors=head.authors,
        lang=head.lang,
        image=_image(one, beside, report),
        enclosure=_enclosure(one, beside, report),
        withdrawn=times.updated_day if times.withdrawn else None,
        attachments=tuple(beside.met.values()),
        extra=head.extra,
    )
    return _storable(post, one, report)


def _contents(one: SourcePost, beside: Attachments, report: PostProblems) -> tuple[Html, str]:
    try:
        html = to_html(one.body, beside.resolve)
    except DepthError as error:
        line = one.body_line + error.line - 1
        what = f"stands in more than {DEEPEST} elements, which no mail program shows"
        problem = Problem(report.name(one.path), line, message=what, hint="nest less")
        report.errors.append(problem)
        return Html(""), ""
    return add_image_sizes(html, beside.pictures()), to_text(one.body, beside.resolve)


def _image(one: SourcePost, beside: Attachments, report: PostProblems) -> Image | None:
    written = one.head.image
    if not written:
        return None
    source = beside.fetchable(written.src)
    if not source:
        report.error(one, "image", _absent(written.src), "put it there, or correct the name")
        return None
    return Image(source, written.alt, *beside.pixels(source))


def _absent(name: str) -> str:
    return f"'{name}' is neither a file beside the post nor an https:// address"


def _storable(post: Post, one: SourcePost, report: PostProblems) -> Post:
    """Report what a character reference such as `&#11;` smuggled past the first look."""
    for part in (post.title, post.summary, post.html, post.text):
        for _, character in forbidden_characters(part):
            line, column = _place_of_reference(character, one)
            what = f"a character reference makes {character}, which no feed can hold"
            report.errors.append(Problem(post.path, line, column, message=what, hint="delete it"))
            return post
    return post


def _place_of_reference(character: str, one: SourcePost) -> tuple[int, int]:
    """Return where the body names `character`, such as `U+000B`; its beginning if it does not."""
    for match in _REFERENCE.finditer(one.body):
        number = int(match[1], 16) if match[1] else int(match[2])
        if f"U+{number:04X}" == character:
            line, column = line_and_column(match.start(), one.body)
            return one.body_line + line - 1, column
    return one.body_line, 0


def _enclosure(one: SourcePost, beside: Attachments, report: PostProblems) -> Enclosure | None:
    written = one.head.enclosure
    if written is None:
        return None
    url = beside.fetchable(written.url)
    if not url:
        report.error(one, "enclosure", _absent(written.url), "put it there, or correct the name")
        return None
    kind = written.type or media_type(urlsplit(url).path)
    found = Enclosure(url, kind, written.length or beside.size(url))
    # RSS 2.0, <enclosure>: url, length and type are required.
    missing = [name for name in ("type", "length") if not getattr(found, name)]
    if not missing:
        return found
    verb = "are" if len(missing) > 1 else "is"
    what = f"the {' and the '.join(missing)} of '{written.url}' {verb} unknown"
    repair = "write {url: …, type: audio/mpeg, length: 1234567}, or name a file beside the post"
    report.error(one, "enclosure", what, repair)
    return None
