"""Feeds: documents, their archives and one writer for each format."""
