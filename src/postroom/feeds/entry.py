"""What every format says of a post in the same words."""

from __future__ import annotations

from html import escape

from postroom.model import Html, Post


def content(post: Post) -> Html:
    """Return the whole content of a feed entry: the lead picture, if any, and the text."""
    if not post.image:
        return post.html
    source, alt = escape(post.image.src), escape(post.image.alt)
    return Html(f'<p><img src="{source}" alt="{alt}"></p>\n{post.html}')
