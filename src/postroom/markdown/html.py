"""Render Markdown as sanitised HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from html import escape, unescape
from urllib.parse import urljoin

import nh3
import pyromark

from postroom.markdown.anchors import add_anchors
from postroom.markdown.dialect import OPTIONS, prepare
from postroom.markdown.unclosed import HIDDEN, visible_html
from postroom.models import Html
from postroom.settings.validation import normalize_url

Resolve = Callable[[str], str]
"""A function that returns the absolute form of a URL in a text."""

SCHEMES = frozenset("http https mailto tel sms xmpp irc ircs geo magnet".split())
"""The schemes of URLs that a link may have."""

DEEPEST = 100
"""How many elements of a post may be nested in each other.

libxml2, which parses whole pages, drops elements that are nested more than 255 deep.
"""
_TAG_DEPTH = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
# HTML Living Standard §13.1.2: void elements have no content; the others are closed by the next
# element of their kind.
_SHALLOW = frozenset(
    "area base br col embed hr iframe img input link meta param source track wbr "
    "a p li dt dd rp rt option colgroup caption thead tbody tfoot tr td th".split()
)
_WEIGHTS = {"table": 3, "ul": 2, "ol": 2, "dl": 2}
"""The levels that an element adds: a table has a row and a cell, a list has an item."""
_LEAVES = ("HtmlBlock", "Paragraph")


def is_too_deep(html: str) -> bool:
    """Tell whether `html` nests more than `DEEPEST` elements."""
    return html.count("<") > DEEPEST and _depth_after(html, Counter()) > DEEPEST


def line_too_deep(markdown: str) -> int:
    """Return the first line of `markdown`, from 1, that is nested too deeply, or 0."""
    blocks, tags = 0, Counter[str]()
    prepared = prepare(markdown).text
    for event, span in pyromark.events_with_range(prepared, options=OPTIONS):
        deepest = 0
        match event:
            case {"Start": kind}:
                blocks += kind not in _LEAVES
            case {"End": kind}:
                blocks -= kind not in _LEAVES
            case {"Html": str(source)} | {"InlineHtml": str(source)}:
                deepest = _depth_after(source, tags)
        if blocks + max(deepest, tags.total()) > DEEPEST:
            return prepared.encode().count(b"\n", 0, span["start"]) + 1
    return 0


def _depth_after(html: str, tags: Counter[str]) -> int:
    """Return the deepest nesting of elements in `html`.

    `tags` counts the elements that are open where `html` begins. It is updated to count the
    elements that are open where `html` ends.
    """
    deepest = 0
    depth = tags.total()
    for closing, written in _TAG_DEPTH.findall(html):
        name = written.lower()
        if name in _SHALLOW or (closing and not tags[name]):
            continue
        weight = _WEIGHTS.get(name, 1)
        change = -weight if closing else weight
        tags[name] += change
        depth += change
        deepest = max(deepest, depth)
    return deepest


_BLOCK = re.compile(r'<pre><code class="language-([^"]+)">(.*?)</code></pre>', re.DOTALL)


def highlight(html: Html) -> Html:
    """Return `html` with the code blocks of known languages highlighted by Pygments."""
    if '<pre><code class="language-' not in html:
        return html
    return Html(_BLOCK.sub(_highlight_block, html))


def _highlight_block(block: re.Match[str]) -> str:
    from pygments import highlight  # noqa: PLC0415 - slow to import, and few posts have code
    from pygments.formatters import HtmlFormatter  # noqa: PLC0415
    from pygments.lexers import get_lexer_by_name  # noqa: PLC0415
    from pygments.util import ClassNotFound  # noqa: PLC0415

    language, code = block.groups()
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return block[0]
    marked = highlight(unescape(code), lexer, HtmlFormatter(nowrap=True))
    return f'<pre tabindex="0"><code class="language-{language}">{marked}</code></pre>'


_TAGS = frozenset(
    "a abbr b bdi bdo blockquote br caption cite code col colgroup dd del details dfn div dl dt em "
    "figcaption figure h1 h2 h3 h4 h5 h6 hr i img input ins kbd li mark ol p picture pre q rp rt "
    "ruby s samp section small source span strong sub summary sup table tbody td tfoot th thead "
    "time tr u ul var audio video track".split()
)
_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "*": frozenset("id class lang dir title".split()),
    "a": frozenset({"href", "hreflang"}),
    "img": frozenset("src srcset sizes alt width height loading".split()),
    "source": frozenset("src srcset sizes media type".split()),
    "audio": frozenset({"src", "controls"}),
    "video": frozenset("src controls poster width height".split()),
    "track": frozenset("src kind srclang label".split()),
    "input": frozenset("type checked disabled".split()),
    "ol": frozenset({"start", "reversed", "type"}),
    "li": frozenset({"value"}),
    "td": frozenset({"colspan", "rowspan", "style"}),
    "th": frozenset({"colspan", "rowspan", "scope", "style"}),
    "time": frozenset({"datetime"}),
    "blockquote": frozenset({"cite"}),
    "q": frozenset({"cite"}),
    "del": frozenset({"cite", "datetime"}),
    "ins": frozenset({"cite", "datetime"}),
}
_ADDRESSES = frozenset({"cite", "poster"})
# Some programs read a URL such as `https:page` as relative, others as absolute.
_HALF = re.compile(r"https?:(?!//)", re.IGNORECASE)
_NEEDS_FILTER = re.compile(rf"srcset|poster|cite|{_HALF.pattern}", re.IGNORECASE)
# With an end tag only if it follows at once: an unclosed iframe must not remove the rest.
_IFRAME = re.compile(r"<iframe\b([^<>]*)>(?:[^<]*</iframe\s*>)?", re.IGNORECASE)
_SOURCE_OR_TITLE = re.compile(
    r"""(?<![\w-])(src|title)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE
)
# The cleaner would turn any other field into a checkbox.
_FIELD = re.compile(r"<input\b(?![^<>]*\btype\s*=\s*[\"']?checkbox\b)[^<>]*>", re.IGNORECASE)
# HTML Living Standard §16.2: obsolete elements, and what to use instead. Without scripts, the
# content of noscript is shown.
_OLD_TAG = re.compile(r"<(/?)(?:(strike|tt)\b|noscript\b[^<>]*>)", re.IGNORECASE)
_MODERN_TAGS = {"strike": "s", "tt": "code"}
_URL = re.compile(r' (href|src)="([^"]*)"')
# A URL that `normalize_url` changes; & is written &amp; there.
_UNUSUAL = re.compile(
    r""" (?:href|src)="[^"]*(?:[^-A-Za-z0-9._~:/?#@!$&'()*+,;=%"]|%(?![0-9A-Fa-f]{2})"""
    r"""|#[^"]*#|//[^"/]*%|mailto:[^"?]*%)"""
)
_HEADING = re.compile(r"<(/?)h([1-6])(?=[ >])")


class DepthError(ValueError):
    """A text is nested too deeply to be shown by other programs; `line` counts from 1."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(f"line {line} is nested in more than {DEEPEST} elements")


def to_html(markdown: str, resolve: Resolve) -> Html:
    """Return `markdown` as sanitised HTML; `resolve` makes each relative URL absolute.

    Headings have ids, and footnotes are at the end. `resolve("")` is the URL of the page, to which
    links to ids lead.

    Raises `DepthError` if the text is nested too deeply. The depth is checked before the HTML is
    sanitised, since sanitising takes a time that grows with the square of the depth.
    """
    rendered = pyromark.html(prepare(markdown).text, options=OPTIONS)
    if is_too_deep(rendered):
        raise DepthError(line_too_deep(markdown) or 1)
    html = _below_title(_join_lines(sanitize(rendered, resolve)))
    return add_anchors(html, normalize_url(resolve("")))


# Scripts without spaces between words: punctuation, kana, Bopomofo, Chinese characters and forms
# of full width. Korean has spaces.
_EAST_ASIAN = (
    "\u3000-\u303f\u3041-\u312f\u31a0-\u31bf\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\ufe30-\ufe4f\uff01-\uff9f\uffe0-\uffe6\U00020000-\U0003fffd"
)
_INLINE_TAGS = (
    r"(?:</?(?:a|abbr|b|code|del|em|i|ins|kbd|mark|q|s|small|span|strong|sub|sup|u)\b[^<>]*>)*"
)
_EAST_ASIAN_BREAK = re.compile(
    rf"(?<=[{_EAST_ASIAN}])({_INLINE_TAGS})\n({_INLINE_TAGS})(?=[{_EAST_ASIAN}])"
)
_PREFORMATTED = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)


def _join_lines(html: Html) -> Html:
    """Return `html` without the line breaks between East Asian characters.

    A browser would show them as spaces (CSS Text 4, segment break transformation).
    """
    if html.isascii() or not _EAST_ASIAN_BREAK.search(html):
        return html
    parts = _PREFORMATTED.split(html)
    parts[::2] = [_EAST_ASIAN_BREAK.sub(r"\1\2", part) for part in parts[::2]]
    return Html("".join(parts))


def sanitize(source: str, resolve: Resolve) -> Html:
    """Return the HTML `source` without scripts, frames and layout.

    `resolve` makes each relative URL absolute.
    """
    source = _OLD_TAG.sub(_replace_old_tag, visible_html(source))
    if "<iframe" in source.casefold():
        source = _IFRAME.sub(_link_for_iframe, source)
    if "<input" in source.casefold():
        source = _FIELD.sub("", source)
    resolve = _percent_encoding(resolve)
    cleaner = nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=HIDDEN,
        attributes=_ATTRIBUTES,
        # The checkbox of a task list is the only field.
        set_tag_attribute_values={"input": {"type": "checkbox"}},
        attribute_filter=_filter(resolve) if _NEEDS_FILTER.search(source) else None,
        url_schemes=SCHEMES,
        url_relative=resolve,
        filter_style_properties={"text-align"},
        link_rel=None,
    )
    html = cleaner.clean(source)
    # The cleaner calls `resolve` for relative URLs only.
    return Html(_URL.sub(_normalize_attribute, html) if _UNUSUAL.search(html) else html)


def _normalize_attribute(match: re.Match[str]) -> str:
    url = normalize_url(unescape(match[2]))
    return f' {match[1]}="{escape(url)}"'


def add_image_sizes(html: Html, sizes: Mapping[str, tuple[int, int]]) -> Html:
    """Return `html` with the width and height of each image whose URL is in `sizes`.

    `sizes` maps absolute URLs to width and height in pixels.
    """
    for url, (width, height) in sizes.items():
        source = f'src="{escape(url)}"'
        for tag in set(re.findall(rf"<img [^>]*{re.escape(source)}[^>]*>", html)):
            if " width=" not in tag:
                sized = tag.replace(source, f'{source} width="{width}" height="{height}"')
                html = Html(html.replace(tag, sized))
    return html


def _replace_old_tag(tag: re.Match[str]) -> str:
    return f"<{tag[1]}{_MODERN_TAGS[tag[2].lower()]}" if tag[2] else ""


def _link_for_iframe(match: re.Match[str]) -> str:
    found = _SOURCE_OR_TITLE.findall(match[1])
    attributes = {name.lower(): "".join(values).replace('"', "&quot;") for name, *values in found}
    source = attributes.get("src", "")
    return f'<a href="{source}">{attributes.get("title") or source}</a>' if source else ""


def _percent_encoding(resolve: Resolve) -> Resolve:
    """Return a function like `resolve` that percent-encodes its results (RFC 3986 §2)."""
    return lambda url: normalize_url(resolve(url.strip()))


def _filter(resolve: Resolve) -> Callable[[str, str, str], str | None]:
    def rewrite(_element: str, attribute: str, value: str) -> str | None:
        if attribute == "srcset":
            return ", ".join(_candidates(value, resolve)) or None
        if attribute in _ADDRESSES:
            url = resolve(value)
            return url if url.startswith(("https://", "http://")) else None
        if attribute in {"href", "src"} and _HALF.match(value):
            return None
        return value

    return rewrite


# HTML Living Standard, srcset attributes: a URL ends at white space, without a final comma.
_CANDIDATE = re.compile(r"[\s,]*(\S*[^\s,])(?:,|([^,]*))")
_DESCRIPTOR = re.compile(r"(?:[0-9.]+[wxh] ?)*")


def _candidates(srcset: str, resolve: Resolve) -> Iterator[str]:
    for url, written in _CANDIDATE.findall(srcset.strip(", \t\n\f\r")):
        absolute, descriptor = resolve(url), " ".join(written.split())
        if absolute.startswith(("https://", "http://")) and _DESCRIPTOR.fullmatch(descriptor):
            yield f"{absolute} {descriptor}".strip()


def _below_title(html: Html) -> Html:
    """Return `html` with all headings one level lower if it has an h1.

    The only h1 of a page is the title of the post.
    """
    return shift_headings(html, 1) if "<h1" in html else html


def shift_headings(html: Html, levels: int) -> Html:
    """Return `html` with every heading `levels` lower, such as h1 as h2, but none below h6."""
    return Html(_HEADING.sub(lambda m: f"<{m[1]}h{min(6, int(m[2]) + levels)}", html))


def resolve_urls(base: str) -> Resolve:
    """Return a resolver that joins relative URLs to `base` (RFC 3986 §5)."""

    def resolve(url: str) -> str:
        try:
            return urljoin(base, url)
        except ValueError:
            return base

    return resolve
