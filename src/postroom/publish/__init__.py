"""Build the output: pages, feeds and digests."""
