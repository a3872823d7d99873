"""Email addresses, tokens and rules that several parts share."""
