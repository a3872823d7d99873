"""Render a digest or an issue as an email: subject, HTML and text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape, unescape

import css_inline
import nh3
from attrs import evolve, frozen

from postroom.mail.unsubscribe import unsubscribe_url
from postroom.markdown.anchors import without_anchors
from postroom.markdown.inline import file_name, mark_quotations, media_link
from postroom.models import Digest, Html, Issue, Post, Site
from postroom.scheduling.periods import digest_of_issue
from postroom.text import display_width, shorten, wrap
from postroom.theme.environment import Theme, theme_colours
from postroom.theme.i18n import Translations

MAX_HTML_BYTES = 90_000
"""Bytes of HTML at most: Gmail clips an email at about 102 KB."""
MIN_PREHEADER, MAX_PREHEADER = 40, 130
"""Characters that a mailbox shows after the subject."""
_TEXT_WIDTH = 72
_INLINER = css_inline.CSSInliner(
    keep_style_tags=False, keep_at_rules=False, load_remote_stylesheets=False
)
# Emails load no images: each image becomes a link with its alternative text.
_LINK = re.compile(r"<a\b.*?</a>", re.DOTALL)
_IMAGE = re.compile(r"<img\b[^>]*>")
_CHECKBOX = re.compile(r"<input\b[^>]*>\s*")
_TASK_ITEM = re.compile(r"<li>(?=\s*(?:<p>)?[☑☐])")
_MEDIUM = re.compile(r"<(audio|video)\b.*?</\1>", re.DOTALL)
_EMPTY_PARAGRAPH = re.compile(r"<p>\s*</p>\n?")
_BLOCK = re.compile(r"<(/?)(?:figure|figcaption|details|summary|section)\b")
_ATTRIBUTE = re.compile(r'\b(src|alt)="([^"]*)"')


@frozen
class RenderedEmail:
    """Subject, HTML and text of an email."""

    subject: str
    html: str
    text: str


def render_email(  # noqa: PLR0913 - all that an email depends on
    digest: Digest,
    site: Site,
    theme: Theme,
    *,
    unsubscribe: str = "",
    preferences: str = "",
    welcome: bool = False,
) -> RenderedEmail:
    """Render `digest`, which holds no withdrawn posts, as an email; with `welcome`, as a welcome.

    A digest of one post shows the whole post; a digest of several posts, or a welcome email, shows
    summaries. Posts that do not fit into `MAX_HTML_BYTES` are replaced by a link to the digest's
    page. `unsubscribe` and `preferences` are the URLs of a subscriber's own pages; without them,
    the email is the public one, which has no such links. Raises `TemplateError`.
    """
    count = len(digest.posts)
    is_single = count == 1 and not welcome
    greeting = _welcome(site, theme.translations) if welcome else {}
    personal = {"unsubscribe": unsubscribe, "preferences": preferences}
    while True:
        shared = _values(digest, site, theme, count=count, is_single=is_single)
        email = _render(theme, {**shared, **greeting, **personal})
        size = len(email.html.encode())
        if size <= MAX_HTML_BYTES or not (is_single or count > 1):
            return email
        if is_single:
            is_single = False
        else:
            count = max(1, min(count - 1, count * MAX_HTML_BYTES // size))


def _render(theme: Theme, values: Mapping[str, object]) -> RenderedEmail:
    html = _INLINER.inline(theme.render("email/email.html", values)).rstrip() + "\n"
    text = re.sub(r"\n{3,}", "\n\n", theme.render("email/email.txt", values)).strip() + "\n"
    return RenderedEmail(str(values["subject"]), html, text)


def _values(
    digest: Digest, site: Site, theme: Theme, *, count: int, is_single: bool
) -> dict[str, object]:
    translations = theme.translations
    return {
        "site": site,
        "contact": site.contact,
        "t": translations,
        "direction": translations.direction,
        "colours": theme_colours(site.theme),
        "digest": digest,
        "title": translations.period(digest.every, digest.first, digest.last),
        "subject": render_subject(digest, site, theme),
        "intro": site.digest.intro,
        "preheader": render_preheader(digest.posts, _filler(digest, site, translations)),
        "posts": digest.posts[:count],
        "hidden": len(digest.posts) - count,
        "is_single": is_single,
        "body": _email_body(digest.posts[0], translations) if is_single else "",
        "wrap": _wrap,
    }


def _welcome(site: Site, translations: Translations) -> dict[str, str]:
    title = translations.welcome.format(site.title)
    return {"title": title, "subject": title, "intro": translations.welcome_intro}


def _filler(digest: Digest, site: Site, translations: Translations) -> tuple[str, ...]:
    period = translations.period(digest.every, digest.first, digest.last)
    return site.digest.intro, site.description, site.title, period, translations.read_on_web


def render_subject(digest: Digest, site: Site, theme: Theme) -> str:
    """Return the subject: the setting `digest.subject` with its placeholders filled in.

    The placeholders are `{title}` (of the site), `{period}` and `{headline}` (the title of the
    newest post).
    """
    pattern = site.digest.subject or "{title}: {period}"
    period = theme.translations.period(digest.every, digest.first, digest.last)
    filled = {"{title}": site.title, "{period}": period, "{headline}": digest.posts[0].title}
    return re.sub(r"\{(title|period|headline)\}", lambda match: filled[match[0]], pattern)


def render_preheader(posts: tuple[Post, ...], filler: Iterable[str] = ()) -> str:
    """Return the preheader: the preview text that a mail program shows after the subject.

    The preheader holds the titles of `posts`, or the summary of a single post. A short preheader is
    extended with `filler`, because mail programs would otherwise add the first links of the email.
    """
    titles = " · ".join(post.title for post in posts)
    line = (len(posts) == 1 and posts[0].summary) or titles
    for text in filter(None, filler):
        if display_width(line) < MIN_PREHEADER and text not in line:
            line += f" · {text}"
    return shorten(line, MAX_PREHEADER)


def _email_body(post: Post, translations: Translations) -> Html:
    html = _LINK.sub(lambda link: _IMAGE.sub(_link_text, link[0]), without_anchors(post.html))
    html = _IMAGE.sub(lambda image: _image_link(image, translations.image), html)
    html = _MEDIUM.sub(lambda medium: media_link(medium[0]), html)
    html = _BLOCK.sub(r"<\1div", _CHECKBOX.sub(_checkbox, _with_signs(html)))
    cleaned = nh3.clean(
        html,
        tags=_EMAIL_TAGS,
        attributes=_EMAIL_ATTRIBUTES,
        allowed_classes={
            "div": {"footnote-definition"},
            "span": {"image"},
            "sup": {"footnote-definition-label"},
        },
        link_rel=None,
    )
    return Html(_TASK_ITEM.sub('<li class="task">', _EMPTY_PARAGRAPH.sub("", cleaned)))


def _with_signs(html: str) -> str:
    """Return `html` with signs that some mail programs do not show for <q> and <ruby>."""
    if "<q" in html:
        html = mark_quotations(html)
    if "<rt" in html and "<rp" not in html:
        html = html.replace("<rt", "<rp>(</rp><rt").replace("</rt>", "</rt><rp>)</rp>")
    return html


_EMAIL_TAGS = frozenset(
    "a abbr b bdi bdo blockquote br caption cite code dd del dfn div dl dt em h1 h2 h3 h4 h5 h6 hr "
    "i ins kbd li mark ol p pre rp rt ruby s samp small span strong sub sup table tbody td tfoot "
    "th thead tr ul var".split()
)
_EMAIL_ATTRIBUTES = {
    "*": {"lang", "dir"},
    "a": {"href"},
    "abbr": {"title"},
    "ol": {"start", "type", "reversed"},
    "li": {"value"},
    "td": {"style", "colspan", "rowspan"},
    "th": {"style", "colspan", "rowspan", "scope"},
}


def _image_link(image: re.Match[str], label: str) -> str:
    attributes = dict(_ATTRIBUTE.findall(image.group()))
    source, alt = attributes.get("src", ""), attributes.get("alt", "")
    if not (source and alt):
        return ""
    link = f'<a href="{source}">{alt}</a>'
    return f'<span class="image">{escape(label).replace("{}", link)}</span>'


def _link_text(image: re.Match[str]) -> str:
    # A link needs text: an image without alternative text is replaced by its file name.
    attributes: dict[str, str] = dict(_ATTRIBUTE.findall(image.group()))
    return attributes.get("alt") or escape(file_name(unescape(attributes.get("src", ""))))


def _checkbox(checkbox: re.Match[str]) -> str:
    return "☑ " if " checked" in checkbox.group() else "☐ "


def _wrap(text: str, indent: int = 0) -> str:
    margin = " " * indent
    return "\n".join(wrap(text, _TEXT_WIDTH, margin, margin))


def render_issue(
    issue: Issue, posts: Mapping[str, Post], site: Site, theme: Theme
) -> RenderedEmail:
    """Render `issue` as an email whose personal links contain `TOKEN_PLACEHOLDER`.

    `posts` maps ids to posts, and holds at least those of the issue. Raises `TemplateError`.
    """
    if issue.frequency == "post" and not site.digest.subject:
        # An issue of every single post names its headline, because a period would say nothing.
        site = evolve(site, digest=evolve(site.digest, subject="{title}: {headline}"))
    digest = digest_of_issue(issue, posts, site)
    unsubscribe = unsubscribe_url(site) if site.mail.unsubscribe else ""
    is_welcome = issue.frequency == "welcome"
    return render_email(digest, site, theme, unsubscribe=unsubscribe, welcome=is_welcome)
