"""Email addresses, tokens, and the rules for bounces and unsubscribing."""
