"""The whole history in archive documents that never change again (RFC 5005 §4).

Full chunks of entries are counted from the oldest post, so a new post touches the head and, once a
chunk is full, adds one document. The head shows the newest entries and so always covers what is
not archived yet; head and archives overlap, and readers merge by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from postroom.model import Post

_NOTICE = timedelta(days=30)


def chunks(posts: Sequence[Post], size: int) -> list[tuple[Post, ...]]:
    """Return the archive documents of `posts` (newest first), the oldest document first.

    Each holds `size` posts, newest first. While one document holds everything there are none.
    """
    if len(posts) <= size:
        return []
    oldest_first = list(reversed(posts))
    full = len(posts) // size
    return [tuple(reversed(oldest_first[n * size : (n + 1) * size])) for n in range(full)]


def head(posts: Sequence[Post], size: int) -> tuple[Post, ...]:
    """Return the newest `size` of `posts` (newest first) and the older ones lately withdrawn.

    A withdrawn post stands in the head until a post is dated more than 30 days after the
    withdrawal, so that every reader that polls learns of it.
    """
    if not posts:
        return ()
    newest = posts[0].day
    noticed = [
        post for post in posts[size:] if post.withdrawn and newest <= post.withdrawn + _NOTICE
    ]
    return (*posts[:size], *noticed)
