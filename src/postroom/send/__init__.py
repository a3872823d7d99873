"""Send issues, once to each subscriber."""
