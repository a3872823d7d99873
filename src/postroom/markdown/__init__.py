"""Convert Markdown to HTML and plain text, and find its links, images and headings."""
