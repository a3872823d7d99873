"""Markdown → safe HTML with absolute addresses.

The HTML is for every place at once: a page, any feed reader, a mail program. So it holds nothing
that runs or leaves its place, and no address that depends on where it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from urllib.parse import urljoin

import nh3
import pyromark

from postroom.markdown.depth import DEEPEST, is_too_deep, line_too_deep
from postroom.markdown.dialect import HIDDEN, OPTIONS, SCHEMES, Resolve, shown
from postroom.model import Html
from postroom.schema import encoded

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
# An address such as `https:page` is relative to some readers and absolute to others.
_HALF = re.compile(r"https?:(?!//)", re.IGNORECASE)
_NEEDS_FILTER = re.compile(rf"srcset|poster|cite|{_HALF.pattern}", re.IGNORECASE)
# Only an end tag that follows at once goes with it: an unclosed one must not take the post along.
_IFRAME = re.compile(r"<iframe\b([^<>]*)>(?:[^<]*</iframe\s*>)?", re.IGNORECASE)
_SOURCE_OR_TITLE = re.compile(
    r"""(?<![\w-])(src|title)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE
)
# Any other field would be left as a box that nobody wrote.
_FIELD = re.compile(r"<input\b(?![^<>]*\btype\s*=\s*[\"']?checkbox\b)[^<>]*>", re.IGNORECASE)
_HEADING = re.compile(r"<(/?)h([1-6])(?=[ >])")


class DepthError(ValueError):
    """Elements stand in each other deeper than anybody can show; `line` counts from 1."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(f"line {line} stands in more than {DEEPEST} elements")


def to_html(markdown: str, resolve: Resolve) -> Html:
    """Return `markdown` as sanitised HTML; `resolve` makes each relative address absolute.

    Raises `DepthError` before the sanitiser, whose time grows with the square of the depth.
    """
    made = pyromark.html(markdown, options=OPTIONS)
    if is_too_deep(made):
        raise DepthError(line_too_deep(markdown) or 1)
    return _below_title(sanitised(made, resolve))


def sanitised(made: str, resolve: Resolve) -> Html:
    """Return the HTML `made` without what runs or leaves its place, its addresses absolute."""
    made = shown(made)
    if "<iframe" in made.casefold():
        made = _IFRAME.sub(_link_for_iframe, made)
    if "<input" in made.casefold():
        made = _FIELD.sub("", made)
    resolve = _encoded(resolve)
    cleaner = nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=HIDDEN,
        attributes=_ATTRIBUTES,
        # Only the box of a task list; any other field would be a form.
        set_tag_attribute_values={"input": {"type": "checkbox"}},
        attribute_filter=_filter(resolve) if _NEEDS_FILTER.search(made) else None,
        url_schemes=SCHEMES,
        url_relative=resolve,
        filter_style_properties={"text-align"},
        link_rel=None,
    )
    return Html(cleaner.clean(made))


def with_sizes(html: Html, sizes: Mapping[str, tuple[int, int]]) -> Html:
    """Return `html` with width and height on each picture in `sizes` (address → pixels)."""
    for address, (width, height) in sizes.items():
        source = f'src="{escape(address)}"'
        for tag in set(re.findall(rf"<img [^>]*{re.escape(source)}[^>]*>", html)):
            if " width=" not in tag:
                sized = tag.replace(source, f'{source} width="{width}" height="{height}"')
                html = Html(html.replace(tag, sized))
    return html


def _link_for_iframe(match: re.Match[str]) -> str:
    found = _SOURCE_OR_TITLE.findall(match[1])
    attributes = {name.lower(): "".join(values).replace('"', "&quot;") for name, *values in found}
    source = attributes.get("src", "")
    return f'<a href="{source}">{attributes.get("title") or source}</a>' if source else ""


def _encoded(resolve: Resolve) -> Resolve:
    """Return `resolve` with what may not stand in a URI (RFC 3986 §2) percent-encoded."""
    return lambda address: encoded(resolve(address.strip()))


def _filter(resolve: Resolve) -> Callable[[str, str, str], str | None]:
    def rewrite(_element: str, attribute: str, value: str) -> str | None:
        if attribute == "srcset":
            return ", ".join(_candidates(value, resolve)) or None
        if attribute in _ADDRESSES:
            address = resolve(value)
            return address if address.startswith(("https://", "http://")) else None
        if attribute in {"href", "src"} and _HALF.match(value):
            return None
        return value

    return rewrite


# HTML Living Standard, srcset attributes: an address reaches to a blank, and takes no comma along.
_CANDIDATE = re.compile(r"[\s,]*(\S*[^\s,])(?:,|([^,]*))")
_DESCRIPTOR = re.compile(r"(?:[0-9.]+[wxh] ?)*")


def _candidates(srcset: str, resolve: Resolve) -> Iterator[str]:
    for address, written in _CANDIDATE.findall(srcset.strip(", \t\n\f\r")):
        absolute, descriptor = resolve(address), " ".join(written.split())
        if absolute.startswith(("https://", "http://")) and _DESCRIPTOR.fullmatch(descriptor):
            yield f"{absolute} {descriptor}".strip()


def _below_title(html: Html) -> Html:
    """Move all headings one level down if one is a first-level one: the title is the only h1."""
    return deepen(html, 1) if "<h1" in html else html


def deepen(html: Html, levels: int) -> Html:
    """Return `html` with every heading moved `levels` down, to h6 at the deepest."""
    return Html(_HEADING.sub(lambda m: f"<{m[1]}h{min(6, int(m[2]) + levels)}", html))


def base(url: str) -> Resolve:
    """Return the resolver that joins relative addresses to `url` (RFC 3986 §5)."""

    def resolve(address: str) -> str:
        try:
            return urljoin(url, address)
        except ValueError:
            return url

    return resolve
