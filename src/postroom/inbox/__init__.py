"""Incoming mail: mailboxes, and the bounces, complaints and unsubscribe emails in them."""
