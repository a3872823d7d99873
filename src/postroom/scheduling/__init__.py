"""The rules that decide which posts are due to which subscribers, and when."""
