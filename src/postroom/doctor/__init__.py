"""Diagnostics: settings, secrets, DNS, the SMTP server and a received email."""
