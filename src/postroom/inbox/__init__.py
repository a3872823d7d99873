"""Returned mail: read a mailbox, classify bounces, apply them."""
