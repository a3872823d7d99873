"""Link texts that say nothing, and URLs that cannot be opened."""

from __future__ import annotations

import pytest

from postroom.lint.links import is_generic_link_text


@pytest.mark.parametrize(
    "text",
    [
        "here",
        "Click here!",
        "Read more …",
        "»",
        "weiter",
        "Mehr lesen",
        "此处",
        "阅读全文",
        "More >",
    ],
)
def test_generic_link_texts_are_known(text: str) -> None:
    """Each language of the theme has texts that do not name the target of a link."""
    assert is_generic_link_text(text)


@pytest.mark.parametrize("text", ["", "Here we stand", "Our report", "https://a.example/"])
def test_other_link_texts_pass(text: str) -> None:
    """A text with other words, or none at all, is not a generic one."""
    assert not is_generic_link_text(text)
