"""Write feeds as JSON Feed 1.1 (https://www.jsonfeed.org/version/1.1/)."""

from __future__ import annotations

import json
from typing import Any

from postroom.models import Feed, Post, Site
from postroom.publish.feeds.feedgen_ext import entry_content

_VERSION = "https://jsonfeed.org/version/1.1"


def write_json_feed(feed: Feed, site: Site) -> bytes:
    """Return `feed` as a JSON Feed document."""
    document = {
        "version": _VERSION,
        "title": feed.title,
        "home_page_url": feed.page_url,
        "feed_url": feed.url,
        "description": feed.description,
        "next_url": feed.previous,
        # JSON Feed 1.1, top level: the icon is for a timeline, the favicon for a list of sources.
        "icon": feed.logo or feed.icon,
        "favicon": feed.icon,
        "language": feed.language,
        "authors": [{"name": site.publisher}],
        "hubs": [{"type": "WebSub", "url": site.feeds.hub}] if site.feeds.hub else [],
        "items": [_item(post, feed) for post in feed.posts],
    }
    present = {key: value for key, value in document.items() if value or key == "items"}
    return json.dumps(present, ensure_ascii=False, indent=1).encode() + b"\n"


def _item(post: Post, feed: Feed) -> dict[str, Any]:
    is_full = feed.content == "full"
    item = {
        "id": post.id,
        "url": post.url,
        "title": post.title,
        "content_html": entry_content(post) if is_full else "",
        "content_text": "" if is_full else post.summary or post.title,
        "summary": post.summary,
        "image": post.image.src if post.image else "",
        "date_published": post.published.isoformat(),
        "date_modified": post.updated.isoformat(),
        "authors": [{"name": name} for name in post.authors],
        "tags": list(post.topics),
        "language": post.lang,
        "attachments": _attachments(post),
    }
    required = "content_html" if is_full else "content_text"
    return {key: value for key, value in item.items() if value or key == required}


def _attachments(post: Post) -> list[dict[str, str | int]]:
    if not post.enclosure:
        return []
    file = post.enclosure
    return [{"url": file.url, "mime_type": file.type, "size_in_bytes": file.length}]
