"""Import and export of subscriber lists."""
