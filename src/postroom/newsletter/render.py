"""A digest → the letter as everyone sees it: subject, HTML and text, without personal links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

import css_inline
import nh3
from attrs import evolve, frozen

from postroom.mail.unsubscribe import unsubscribe_url
from postroom.models import Digest, Html, Issue, Post, Site
from postroom.scheduling.periods import digest_of_issue
from postroom.text import display_width, shorten, wrap
from postroom.theme.environment import Theme, theme_colours
from postroom.theme.i18n import Translations

LIMIT = 90_000
"""Bytes of HTML at most: Gmail cuts a letter at about 102 KB."""
LEAST, MOST = 40, 130
"""Characters that a mailbox shows beside the subject."""
WIDTH = 72
_INLINER = css_inline.CSSInliner(
    keep_style_tags=False, keep_at_rules=False, load_remote_stylesheets=False
)
# A letter loads nothing from outside: of a picture its description stays, as a link.
_LINK = re.compile(r"<a\b.*?</a>", re.DOTALL)
_IMAGE = re.compile(r"<img\b[^>]*>")
_BOX = re.compile(r"<input\b[^>]*>\s*")
_TASK = re.compile(r"<li>(?=\s*(?:<p>)?[☑☐])")
_BLOCK = re.compile(r"<(/?)(?:figure|figcaption|details|summary|section)\b")
_ATTRIBUTE = re.compile(r'\b(src|alt)="([^"]*)"')


@frozen
class RenderedEmail:
    """A letter as everyone sees it."""

    subject: str
    html: str
    text: str


def render_email(  # noqa: PLR0913 - what a letter depends on
    digest: Digest,
    site: Site,
    theme: Theme,
    *,
    unsubscribe: str = "",
    preferences: str = "",
    welcome: bool = False,
) -> RenderedEmail:
    """Return the letter of `digest`; with `welcome`, the one that greets with its posts.

    A digest of one post holds it whole; one of several, or a greeting, holds summaries. What does
    not fit below `LIMIT` stays behind a link to the digest's page. `unsubscribe` and `preferences`
    are the addresses of a subscriber's own pages; the letter as everyone sees it has none.
    Raises `TemplateError`.
    """
    shown = len(digest.posts)
    whole = shown == 1 and not digest.posts[0].withdrawn and not welcome
    greeting = _greeting(site, theme.words) if welcome else {}
    personal = {"unsubscribe": unsubscribe, "preferences": preferences}
    while True:
        shared = _values(digest, site, theme, shown=shown, whole=whole)
        values = {**shared, **greeting, **personal}
        letter = _rendered(theme, values)
        size = len(letter.html.encode())
        if size <= LIMIT or not (whole or shown > 1):
            return letter
        if whole:
            whole = False
        else:
            shown = max(1, min(shown - 1, shown * LIMIT // size))


def _rendered(theme: Theme, values: Mapping[str, object]) -> RenderedEmail:
    html = _INLINER.inline(theme.render("email/email.html", values)).rstrip() + "\n"
    text = re.sub(r"\n{3,}", "\n\n", theme.render("email/email.txt", values)).strip() + "\n"
    return RenderedEmail(str(values["subject"]), html, text)


def _values(
    digest: Digest, site: Site, theme: Theme, *, shown: int, whole: bool
) -> dict[str, object]:
    words = theme.words
    return {
        "site": site,
        "contact": site.contact,
        "words": words,
        "direction": words.direction,
        "colours": theme_colours(site.theme),
        "digest": digest,
        "title": words.period(digest.every, digest.first, digest.last),
        "subject": render_subject(digest, site, theme),
        "intro": site.digest.intro,
        "preheader": render_preheader(digest.posts, _about(digest, site, words)),
        "posts": digest.posts[:shown],
        "hidden": len(digest.posts) - shown,
        "whole": whole,
        "body": _email_body(digest.posts[0], words) if whole else "",
        "wrap": _wrap,
    }


def _greeting(site: Site, words: Translations) -> dict[str, str]:
    welcome = words.welcome.format(site.title)
    return {"title": welcome, "subject": welcome, "intro": words.welcome_intro}


def _about(digest: Digest, site: Site, words: Translations) -> tuple[str, ...]:
    period = words.period(digest.every, digest.first, digest.last)
    return site.digest.intro, site.description, site.title, period, words.read_on_web


def render_subject(digest: Digest, site: Site, theme: Theme) -> str:
    """Return the subject line; in settings `{title}`, `{period}` and `{headline}` are filled in."""
    pattern = site.digest.subject or "{title}: {period}"
    period = theme.words.period(digest.every, digest.first, digest.last)
    filled = {"{title}": site.title, "{period}": period, "{headline}": digest.posts[0].title}
    return re.sub(r"\{(title|period|headline)\}", lambda match: filled[match[0]], pattern)


def render_preheader(posts: tuple[Post, ...], besides: Iterable[str] = ()) -> str:
    """Return what a mailbox shows beside the subject: the titles, or a lone post's summary.

    What is short goes on with what is `besides`: a mailbox would else show the head's links.
    """
    alone = len(posts) == 1 and not posts[0].withdrawn
    titles = " · ".join(post.title for post in posts)
    line = (alone and posts[0].summary) or titles
    for more in filter(None, besides):
        if display_width(line) < LEAST and more not in line:
            line += f" · {more}"
    return shorten(line, MOST)


def _email_body(post: Post, words: Translations) -> Html:
    linked = _LINK.sub(lambda link: _IMAGE.sub(_named, link[0]), post.html)
    shown = _IMAGE.sub(lambda image: _described(image, words.picture), linked)
    plain = _BLOCK.sub(r"<\1div", _BOX.sub(_box, shown))
    cleaned = nh3.clean(
        plain,
        tags=_EMAIL_TAGS,
        attributes={"*": {"lang", "dir"}, "a": {"href"}, "td": {"style"}, "th": {"style"}},
        allowed_classes={
            "div": {"footnote-definition"},
            "span": {"picture"},
            "sup": {"footnote-definition-label"},
        },
        link_rel=None,
    )
    return Html(_TASK.sub('<li class="task">', cleaned))


_EMAIL_TAGS = frozenset(
    "a b bdi blockquote br code dd del div dl dt em h1 h2 h3 h4 h5 h6 hr i kbd li ol p pre s small "
    "span strong sub sup table tbody td th thead tr ul".split()
)


def _described(image: re.Match[str], label: str) -> str:
    attributes = dict(_ATTRIBUTE.findall(image.group()))
    source, alt = attributes.get("src", ""), attributes.get("alt", "")
    if not (source and alt):
        return ""
    link = f'<a href="{source}">{alt}</a>'
    return f'<span class="picture">{escape(label).replace("{}", link)}</span>'


def _named(image: re.Match[str]) -> str:
    # A link needs words, so that of a picture without a description its file's name must do.
    attributes: dict[str, str] = dict(_ATTRIBUTE.findall(image.group()))
    return attributes.get("alt") or attributes.get("src", "").rpartition("/")[2]


def _box(box: re.Match[str]) -> str:
    return "☑ " if " checked" in box.group() else "☐ "


def _wrap(text: str, indent: int = 0) -> str:
    margin = " " * indent
    return "\n".join(wrap(text, WIDTH, margin, margin))


def render_issue(
    letter: Issue, posts: Mapping[str, Post], site: Site, theme: Theme
) -> RenderedEmail:
    """Return `letter` in words, with the pages of the token's placeholder as its links.

    `posts` holds those of the letter by id. Raises `TemplateError`.
    """
    if letter.frequency == "post" and not site.digest.subject:
        # Who gets every post wants to know which; a period says nothing then.
        site = evolve(site, digest=evolve(site.digest, subject="{title}: {headline}"))
    leave = unsubscribe_url(site) if site.mail.unsubscribe else ""
    digest, greets = digest_of_issue(letter, posts, site), letter.frequency == "welcome"
    return render_email(digest, site, theme, unsubscribe=leave, welcome=greets)
