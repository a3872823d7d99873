"""Posts → their topics, each with addresses that do not depend on the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, urljoin

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


def spellings(posts: Iterable[Post], known: Iterable[Topic]) -> list[Problem]:
    """Return a warning for each post that spells a topic as others do not, or without letters."""
    names = {topic.slug: topic.name for topic in known}
    named = [(post, name, topic_slug(name)) for post in posts for name in post.topics]
    return [
        Problem(post.path, 1, 0, "topics", *_oddity(name, names.get(slug, "")), "post-topic")
        for post, name, slug in named
        if names.get(slug) != name
    ]


def _oddity(name: str, usual: str) -> tuple[str, str]:
    if usual:
        return f"found '{name}'", f"others write '{usual}'"
    return f"'{name}' makes no address", "write it in letters"
