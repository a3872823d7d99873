"""The table of feed formats is the only list of them."""

from __future__ import annotations

from pkgutil import resolve_name

from postroom.lint.feeds import CHECKS
from postroom.models import FORMATS, FeedSettings
from tests.support import feed_readers


def test_each_format_has_a_writer_and_a_check() -> None:
    """A row of the table names a function, and the checks of feeds cover each row."""
    assert all(callable(resolve_name(form.writer)) for form in FORMATS)
    assert set(CHECKS) == {form.key for form in FORMATS}


def test_all_formats_are_written_by_default() -> None:
    """A site without `feeds.formats` has feeds of each format."""
    assert FeedSettings().formats == tuple(form.key for form in FORMATS)


def test_the_names_and_files_of_formats_are_unique() -> None:
    """No two formats write to the same file or share a name in the settings."""
    for values in ({form.key for form in FORMATS}, {form.file for form in FORMATS}):
        assert len(values) == len(FORMATS)
    assert len({form.archive_ending for form in FORMATS}) == len(FORMATS)


def test_the_tests_read_each_format() -> None:
    """The tests that run once for each format skip none."""
    assert tuple(form.file for form in FORMATS) == feed_readers.FORMATS
