"""Postroom turns a folder of Markdown news posts into feeds, pages and an email digest."""

__version__ = "0.1.0"
