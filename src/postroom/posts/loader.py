"""Load the posts of a site that are due, or report every error in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from attrs import frozen

from postroom.errors import ContentError, Problem
from postroom.markdown.html import DEEPEST, DepthError, add_image_sizes, to_html
from postroom.markdown.plaintext import to_text
from postroom.markdown.summary import first_paragraph
from postroom.markdown.unclosed import find_unclosed
from postroom.media_types import media_type
from postroom.models import Enclosure, Html, Image, Post, Site, Topic
from postroom.posts.front_matter import day_of, instant_of, start_of, take_instant, to_site_time
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
    """Return the topics of the settings in their order, then other topics of posts by name.

    Names that differ only in case or punctuation are one topic. Its name is the one in the
    settings, or else the one in the oldest post.
    """
    names: dict[str, str] = {topic_slug(name): name for name in site.topics}
    found: dict[str, str] = {}
    by_slug: dict[str, list[Post]] = {}
    for post in posts:
        slugs = {topic_slug(name): name for name in reversed(post.topics)}
        found.update(slugs)
        for slug in slugs:
            by_slug.setdefault(slug, []).append(post)
    rest = sorted((slug for slug in found if slug not in names), key=lambda slug: slug.casefold())
    names.update((slug, found[slug]) for slug in rest)
    return tuple(
        Topic(name, slug, urljoin(site.url, f"topics/{quote(slug)}/"), tuple(by_slug.get(slug, ())))
        for slug, name in names.items()
        if slug
    )


@frozen
class TopicSpelling:
    """A topic that a post writes differently from its `usual` name.

    `usual` is empty if `written` has no letters or digits, of which a URL could be made.
    """

    path: str
    written: str
    usual: str


def find_spellings(posts: Iterable[Post], known: Iterable[Topic]) -> list[TopicSpelling]:
    """Return each unusual spelling of a topic, and each name without letters or digits."""
    names = {topic.slug: topic.name for topic in known}
    named = [
        (post, name, names.get(topic_slug(name), "")) for post in posts for name in post.topics
    ]
    return [TopicSpelling(post.path, name, usual) for post, name, usual in named if usual != name]


def spelling_warning(odd: TopicSpelling, line: int) -> Problem:
    """Return the warning about an unusual spelling on `line`."""
    message, hint = f"found '{odd.written}'", f"others write '{odd.usual}'"
    if not odd.usual:
        message, hint = f"'{odd.written}' makes no URL", "use letters or digits"
    return Problem(odd.path, line, 0, "topics", message, hint, "post-topic")


_REFERENCE = re.compile(r"&#(?:[xX]([0-9A-Fa-f]{1,8})|([0-9]{1,8}))")


@frozen
class _Times:
    """The times at which a post was published and last changed.

    `withdrawn` is true if the last change withdrew the post.
    """

    published: datetime
    updated: datetime
    updated_day: date
    withdrawn: bool


@frozen
class LoadedPosts:
    """The posts that are due, newest first, the paths of all other posts, and the warnings.

    `waiting`, `drafts` and `expired` hold paths of posts that are not due. `unnamed` holds a pair
    for each post without an `id` of its own: its path and the id derived from the path.
    """

    posts: tuple[Post, ...]
    waiting: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    unnamed: tuple[tuple[str, str], ...] = ()
    odd_topics: tuple[TopicSpelling, ...] = ()
    warnings: tuple[Problem, ...] = ()


def load_posts(site_dir: Path, site: Site, at: datetime, *, drafts: bool = False) -> LoadedPosts:
    """Read the posts of the site in the folder `site_dir` as of the instant `at`.

    Raises `ContentError` with every error of every post.
    """
    return read_posts(scan_folder(site_dir, site.posts, site.output), site, at, drafts=drafts)


def read_posts(
    folder: SourceFolder, site: Site, at: datetime, *, drafts: bool = False
) -> LoadedPosts:
    """Return the posts of `folder` as of the instant `at`.

    Raises `ContentError` with every error of every post.
    """
    return read_every_post(folder, site, at, drafts=drafts)[0]


def read_every_post(
    folder: SourceFolder, site: Site, at: datetime, *, drafts: bool = False
) -> tuple[LoadedPosts, tuple[SourcePost, ...]]:
    """Return the result of `read_posts`, and the source of every post, drafts included.

    Raises `ContentError` with every error of every post.
    """
    report = PostProblems(site.posts, list(folder.problems))
    parsed = (parse_post(path, data, site, report) for path, data in folder.texts.items())
    sources = [source for source in parsed if source]
    visible = [source for source in sources if drafts or not source.head.draft]
    current = [source for source in visible if not source.has_expired(at)]
    _report_duplicates(current, report)
    times = _timeline(current, at, site)
    # A link keeps its URL when its target expires.
    urls = {source.path: source.url for source in visible}
    posts = {
        source.path: _make_post(
            source, times[source.path], Attachments(source, urls, folder, site), report
        )
        for source in current
    }
    if report.errors:
        raise ContentError(report.errors)
    due = [posts[source.path] for source in current if source.begins <= at]
    waiting = {report.name(source.path) for source in current} - {post.path for post in due}
    odd = _spellings(posts, site)
    warnings = (*report.warnings, *_spelling_warnings(odd, current, report))
    loaded = LoadedPosts(
        posts=tuple(sorted(due, key=lambda post: post.published, reverse=True)),
        waiting=tuple(sorted(waiting)),
        drafts=tuple(report.name(source.path) for source in sources if source.head.draft),
        expired=tuple(report.name(source.path) for source in visible if source.has_expired(at)),
        unnamed=tuple(
            (report.name(source.path), source.id) for source in sources if not source.head.id
        ),
        odd_topics=tuple(odd),
        warnings=tuple(sorted(warnings)),
    )
    return loaded, tuple(sources)


def _spellings(posts: Mapping[str, Post], site: Site) -> list[TopicSpelling]:
    known = sorted(posts.values(), key=lambda post: post.published, reverse=True)
    return find_spellings(known, group_by_topic(known, site))


def _spelling_warnings(
    odd: Iterable[TopicSpelling], sources: Iterable[SourcePost], report: PostProblems
) -> list[Problem]:
    lines = {report.name(source.path): source.head.lines.get("topics", 1) for source in sources}
    return [spelling_warning(spelling, lines[spelling.path]) for spelling in odd]


def _report_duplicates(sources: list[SourcePost], report: PostProblems) -> None:
    by_id: dict[str, SourcePost] = {}
    by_url: dict[str, SourcePost] = {}
    for source in sources:
        first = by_id.setdefault(source.id, source)
        if first is not source:
            message = f"'{source.id}' is also the id of {report.name(first.path)}"
            report.error(source, "id", message, "change it in the post that is not published yet")
        first = by_url.setdefault(source.url.casefold(), source)
        if first is not source:
            message = f"'{source.slug}' makes the same URL as {report.name(first.path)}"
            report.error(source, "slug", message, "write another slug: … in one of them")


def _timeline(sources: Iterable[SourcePost], at: datetime, site: Site) -> dict[str, _Times]:
    """Return the times of each post, keyed by its path.

    All instants are different: if two are equal, that of the post that comes later in the order of
    (date, id) is moved on by seconds until it is free.
    """
    taken: dict[datetime, datetime] = {}
    published: dict[str, datetime] = {}
    in_order = sorted(sources, key=lambda source: (source.instant, source.id))
    for source in in_order:
        published[source.path] = take_instant(source.instant, taken)
    times = {}
    for source in in_order:
        first = to_site_time(published[source.path], site)
        times[source.path] = _Times(first, first, source.day, withdrawn=False)
        for moment, withdrawn in ((source.head.withdrawn, True), (source.head.updated, False)):
            instant = moment and instant_of(moment, source.id, site)
            if moment and instant and start_of(moment, site) <= at:
                last = to_site_time(take_instant(instant, taken), site)
                day = day_of(moment, last, site)
                times[source.path] = _Times(first, last, day, withdrawn)
                break
    return times


def _make_post(
    source: SourcePost, times: _Times, attachments: Attachments, report: PostProblems
) -> Post:
    head = source.head
    html = _html(source, attachments, report)
    post = Post(
        id=source.id,
        slug=source.slug,
        title=source.title,
        url=source.url,
        path=report.name(source.path),
        published=times.published,
        updated=times.updated,
        day=source.day,
        updated_day=times.updated_day,
        html=html,
        summary=head.summary or first_paragraph(html),
        text=to_text(html),
        topics=head.topics,
        authors=head.authors,
        lang=head.lang,
        image=_image(source, attachments, report),
        enclosure=_enclosure(source, attachments, report),
        withdrawn=times.updated_day if times.withdrawn else None,
        attachments=tuple(attachments.found.values()),
        extra=head.extra,
    )
    return _check_characters(post, source, report)


def _html(source: SourcePost, attachments: Attachments, report: PostProblems) -> Html:
    if found := find_unclosed(source.body):
        line = source.body_line + found.line - 1
        message = f"'{found.written}' is never closed, and would hide the text after it"
        hint = f"end it with {found.end}, or put it between ` signs"
        path = report.name(source.path)
        report.errors.append(Problem(path, line, found.column, message=message, hint=hint))
        return Html("")
    try:
        html = to_html(source.body, attachments.resolve)
    except DepthError as error:
        line = source.body_line + error.line - 1
        message = f"has more than {DEEPEST} nested elements, such as lists or quotes"
        path = report.name(source.path)
        report.errors.append(Problem(path, line, message=message, hint="nest fewer of them"))
        return Html("")
    return add_image_sizes(html, attachments.image_sizes())


def _image(source: SourcePost, attachments: Attachments, report: PostProblems) -> Image | None:
    written = source.head.image
    if not written:
        return None
    url = attachments.fetchable(written.src)
    if not url:
        report.error(source, "image", _absent(written.src), "put it there, or correct the name")
        return None
    return Image(url, written.alt, *attachments.pixels(url))


def _absent(name: str) -> str:
    return f"'{name}' is neither a file beside the post nor an https:// URL"


def _check_characters(post: Post, source: SourcePost, report: PostProblems) -> Post:
    """Return `post` after a check for characters that no feed can hold.

    A character reference such as `&#11;` makes such a character. The first one found is reported.
    """
    for part in (post.title, post.summary, post.html, post.text):
        for _, character in forbidden_characters(part):
            line, column = _place_of_reference(character, source)
            message = f"a character reference makes {character}, which no feed can hold"
            problem = Problem(post.path, line, column, message=message, hint="delete it")
            report.errors.append(problem)
            return post
    return post


def _place_of_reference(character: str, source: SourcePost) -> tuple[int, int]:
    """Return the line and column in the file of the reference that makes `character`.

    `character` is a name such as `U+000B`.
    """
    for match in _REFERENCE.finditer(source.body):
        number = int(match[1], 16) if match[1] else int(match[2])
        if f"U+{number:04X}" == character:
            line, column = line_and_column(match.start(), source.body)
            return source.body_line + line - 1, column
    return source.body_line, 0


def _enclosure(
    source: SourcePost, attachments: Attachments, report: PostProblems
) -> Enclosure | None:
    written = source.head.enclosure
    if written is None:
        return None
    url = attachments.fetchable(written.url)
    if not url:
        report.error(source, "enclosure", _absent(written.url), "put it there, or correct the name")
        return None
    kind = written.type or media_type(urlsplit(url).path)
    found = Enclosure(url, kind, written.length or attachments.size(url))
    # RSS 2.0, <enclosure>: url, length and type are required.
    missing = [name for name in ("type", "length") if not getattr(found, name)]
    if not missing:
        return found
    verb = "are" if len(missing) > 1 else "is"
    message = f"the {' and the '.join(missing)} of '{written.url}' {verb} unknown"
    hint = "write {url: …, type: audio/mpeg, length: 1234567}, or name a file beside the post"
    report.error(source, "enclosure", message, hint)
    return None
