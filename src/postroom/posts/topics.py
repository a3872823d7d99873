"""Posts → their topics, each with addresses that do not depend on the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, urljoin

from attrs import frozen

from postroom.errors import Problem
from postroom.frontmatter import topic_slug
from postroom.model import Post, Site, Topic


def topics(posts: Sequence[Post], site: Site) -> tuple[Topic, ...]:
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
class Spelling:
    """A topic that a post spells as others do not; `usual` is empty if it makes no address."""

    path: str
    written: str
    usual: str


def spellings(posts: Iterable[Post], known: Iterable[Topic]) -> list[Spelling]:
    """Return each odd spelling of a topic, and names without letters."""
    names = {topic.slug: topic.name for topic in known}
    named = [
        (post, name, names.get(topic_slug(name), "")) for post in posts for name in post.topics
    ]
    return [Spelling(post.path, name, usual) for post, name, usual in named if usual != name]


def warning(odd: Spelling, line: int) -> Problem:
    """Return the warning of an odd spelling on `line`."""
    what, repair = f"found '{odd.written}'", f"others write '{odd.usual}'"
    if not odd.usual:
        what, repair = f"'{odd.written}' makes no address", "write it in letters"
    return Problem(odd.path, line, 0, "topics", what, repair, "post-topic")
