"""Which posts are due to whom, and when."""
