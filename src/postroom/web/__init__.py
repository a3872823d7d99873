"""The HTTP service: the pages for subscribers, and the built site."""
