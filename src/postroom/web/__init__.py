"""The HTTP service of `postroom serve`: the pages for subscribers, and the built site."""
