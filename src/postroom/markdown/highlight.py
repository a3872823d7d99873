"""Code blocks of a page → the same with classes for colours; feeds and letters keep them plain."""

from __future__ import annotations

import re
from html import unescape

from postroom.model import Html

_BLOCK = re.compile(r'<pre><code class="language-([^"]+)">(.*?)</code></pre>', re.DOTALL)


def highlighted(html: Html) -> Html:
    """Return `html` with every code block of a known language marked up by Pygments' classes."""
    if '<pre><code class="language-' not in html:
        return html
    return Html(_BLOCK.sub(_coloured, html))


def _coloured(block: re.Match[str]) -> str:
    from pygments import highlight  # noqa: PLC0415 - few posts hold code, and it is slow to import
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
