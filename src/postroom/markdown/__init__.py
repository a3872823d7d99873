"""Markdown to HTML, to plain text and to what a post contains."""
