"""The checks of posts, pages, feeds and emails."""
