"""The language of code and docs: the words of the field, and sentences with a subject."""

from __future__ import annotations

import pytest

from tests.docs.language import (
    Text,
    check_names,
    check_text,
    find_all,
    markdown_texts,
    python_texts,
    template_texts,
)


def test_nothing_is_found() -> None:
    """No text or name of the repository holds a banned word or a sentence without a subject."""
    findings = [str(finding) for finding in find_all()]
    assert not findings, f"{len(findings)} findings\n" + "\n".join(findings[:100])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Send the letters of a newsroom.", ["letters", "newsroom"]),
        ("A reader left the list.", ["reader", "left the list"]),
        ("Its arrival is struck; the bookmark stays.", ["arrival", "struck", "bookmark"]),
        ("The server puts it off and it is in doubt.", ["puts it off", "in doubt"]),
        (
            "Whoever asks gets nothing.",
            ["Whoever asks gets nothing.", "Whoever asks gets nothing."],
        ),
        ("Send a digest. What is left waits.", ["What is left waits."]),
        ("Posts → pages", ["Posts → pages"]),
    ],
)
def test_banned_words_and_sentences_are_found(text: str, found: list[str]) -> None:
    """Old words, sentences that begin with a clause and arrows as summaries are findings."""
    findings = check_text(Text("a.py", 1, "docstring", text))
    assert sorted(finding.found for finding in findings) == sorted(found)


@pytest.mark.parametrize(
    "text",
    [
        "Write the link into the <head> of a page, and an <article> around it.",
        "Set `text-align: left`, and name the `letters` key.",
        "Feed readers and screen readers read capital letters.",
        "Send the newsletter. What is left?",
        "Return the number of posts that nobody has read.",
        "The Subject header names the topic, as Outlook shows it.",
    ],
)
def test_words_in_their_own_meaning_are_not_found(text: str) -> None:
    """Names of elements, code, feed readers, questions and mail programs are no findings."""
    assert list(check_text(Text("a.py", 1, "docstring", text))) == []


def test_every_kind_of_text_is_read() -> None:
    """Docstrings, comments, messages, template comments and pages are read, with their lines."""
    source = '"""Module."""\n\n\ndef f():\n    """Function."""\n    raise E("a b")  # why\n'
    assert [(text.line, text.kind, text.text) for text in python_texts("src/a.py", source)] == [
        (1, "docstring", "Module."),
        (5, "docstring", "Function."),
        (6, "string", "a b"),
        (6, "comment", "why"),
    ]
    assert [text.kind for text in python_texts("tests/a.py", source)].count("string") == 0
    page = "# Title\n\n```sh\npostroom letter\n```\n\nWords.\n"
    assert [(each.line, each.text.strip()) for each in markdown_texts("a.md", page)] == [
        (1, "# Title"),
        (7, "Words."),
    ]
    (comment,) = template_texts("a.html", "<p>\n{# A letter. #}\n</p>\n")
    assert (comment.line, comment.text) == (2, "A letter.")


def test_names_are_read() -> None:
    """Functions, parameters and variables with a banned word are findings, answers are not."""
    source = "def told(letter):\n    for one in letter:\n        letter_count = one\n"
    found = [finding.found for finding in check_names("src/a.py", source)]
    assert sorted(found) == ["letter", "letter_count", "one", "told"]
    assert list(check_names("src/a.py", "def is_held(post): pass\n")) == []
