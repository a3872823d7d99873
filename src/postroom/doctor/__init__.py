"""Diagnostics of what email delivery needs."""
